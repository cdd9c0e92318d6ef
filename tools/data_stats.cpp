// tunas data stats: how many images, of which classes and sizes; with --pixels, mean and deviation
// of each colour over all pixels of all images, on the 0..255 scale of the image kernel.
//
//   mean = S1/N   std = sqrt(S2/N - mean^2)   N pixels, S1 and S2 sums of x and x^2, exact integers
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "data/decode.h"
#include "tools/data_work.h"
#include "tools/interrupt.h"
#include "tools/selection.h"
#include "tools/terminal.h"

namespace tunas::tools {
namespace {

using Json = nlohmann::ordered_json;

enum class Kind : unsigned char { jpeg, png, pixels, other };
constexpr const char* kKinds[] = {"jpeg", "png", "pixels", "other"};

Kind kind_of(const data::Content& content) {
  if (content.channels != 0) return Kind::pixels;
  const auto starts = [&](std::initializer_list<std::uint8_t> bytes) {
    return content.bytes.size() >= bytes.size() &&
           std::equal(bytes.begin(), bytes.end(), content.bytes.begin());
  };
  if (starts({0xFF, 0xD8})) return Kind::jpeg;
  return starts({0x89, 'P', 'N', 'G'}) ? Kind::png : Kind::other;
}

/// What is known of one image.
struct Facts {
  Kind kind = Kind::other;
  std::uint64_t bytes = 0;
  data::Size size;
  std::array<std::uint64_t, 3> sum = {}, squares = {};
  std::string reason;  // of a bad one
};

enum class Look : unsigned char { header, pixels };

/// One thread's.
struct Looker {
  data::Decoder decoder;
  data::Records::Scratch scratch;
  std::vector<std::uint8_t> rgb;

  Facts look(const data::Records& records, std::int64_t index, Look look) {
    Facts facts;
    try {
      const data::Content content = records.read(index, scratch);
      facts.kind = kind_of(content);
      facts.bytes = content.bytes.size();
      facts.size = decoder.open(content);
      if (look == Look::pixels) add_pixels(facts);
    } catch (const Error& error) {
      if (error.code() != Exit::data) throw;
      facts.reason = error.what();
    }
    return facts;
  }

  void add_pixels(Facts& facts) {
    const std::size_t pixels =
        static_cast<std::size_t>(facts.size.h) * static_cast<std::size_t>(facts.size.w);
    rgb.resize(3 * pixels);
    decoder.read({0, 0, facts.size.h, facts.size.w}, rgb.data());
    for (std::size_t i = 0; i < rgb.size(); i += 3) {
      for (std::size_t c = 0; c < 3; ++c) {
        const std::uint64_t value = rgb[i + c];
        facts.sum[c] += value;
        facts.squares[c] += value * value;
      }
    }
  }
};

/// A sample of whole numbers.
struct Spread {
  std::vector<std::int64_t> values;

  Json json() {
    std::sort(values.begin(), values.end());
    const auto at = [&](double share) {
      return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
    };
    return {
        {"min", at(0)}, {"p05", at(0.05)}, {"median", at(0.5)}, {"p95", at(0.95)}, {"max", at(1)}};
  }
};

class Stats {
 public:
  void add(const Facts& facts) {
    ++kinds_[static_cast<std::size_t>(facts.kind)];
    bytes_ += facts.bytes;
    sizes_.values.push_back(static_cast<std::int64_t>(facts.bytes));
    width_.values.push_back(facts.size.w);
    height_.values.push_back(facts.size.h);
    shorter_.values.push_back(std::min(facts.size.h, facts.size.w));
    pixels_ += std::uint64_t(facts.size.h) * std::uint64_t(facts.size.w);
    for (std::size_t c = 0; c < 3; ++c) {
      sum_[c] += facts.sum[c];
      squares_[c] += facts.squares[c];
    }
  }

  Json json(const data::Records& records, Look look) {
    const auto images = static_cast<std::int64_t>(width_.values.size());
    Json all = {{"images", records.size()}, {"bad", records.size() - images}};
    Spread classes;
    std::vector<std::int64_t> counts(static_cast<std::size_t>(records.classes()));
    for (const std::int32_t label : records.labels) ++counts[static_cast<std::size_t>(label)];
    all["classes"] = records.classes();
    all["classes_without_images"] = std::count(counts.begin(), counts.end(), 0);
    classes.values = std::move(counts);
    all["images_a_class"] = classes.json();
    if (images == 0) return all;
    for (std::size_t i = 0; i < 4; ++i) {
      if (kinds_[i] > 0) all["kinds"][kKinds[i]] = kinds_[i];
    }
    all["bytes"] = bytes_;
    all["bytes_an_image"] = sizes_.json();
    all["width"] = width_.json();
    all["height"] = height_.json();
    all["shorter_side"] = shorter_.json();
    all["pixels"] = pixels_;
    if (look == Look::pixels) add_colours(all);
    return all;
  }

 private:
  using Wide = unsigned __int128;  // sums of squares of an ImageNet pass 2^64

  void add_colours(Json& all) const {
    Json means = Json::array(), deviations = Json::array();
    for (std::size_t c = 0; c < 3; ++c) {
      const long double n = pixels_;
      const long double mean = static_cast<long double>(sum_[c]) / n;
      const long double square = static_cast<long double>(squares_[c]) / n;
      means.push_back(static_cast<double>(mean));
      deviations.push_back(static_cast<double>(std::sqrt(std::max(square - mean * mean, 0.0L))));
    }
    all["mean"] = means;
    all["std"] = deviations;
  }

  std::int64_t kinds_[4] = {};
  std::uint64_t bytes_ = 0, pixels_ = 0;
  Wide sum_[3] = {}, squares_[3] = {};
  Spread sizes_, width_, height_, shorter_;
};

std::string text(const Json& all) {
  const auto spread = [&](const char* name, const char* title) {
    const Json& of = all[name];
    const auto number = [&](const char* key) { return of[key].get<long>(); };
    return fmt::format("{:<16}{:>9}{:>9}{:>9}{:>9}{:>9}\n", title, number("min"), number("p05"),
                       number("median"), number("p95"), number("max"));
  };
  std::string out =
      fmt::format("{} images, {} classes", all["images"].get<long>(), all["classes"].get<long>());
  if (all["bad"] != 0) out += fmt::format(", {} images are bad", all["bad"].get<long>());
  if (all["classes_without_images"] != 0) {
    out += fmt::format(", {} classes have no image", all["classes_without_images"].get<long>());
  }
  out +=
      fmt::format("\n{:<16}{:>9}{:>9}{:>9}{:>9}{:>9}\n", "", "min", "5 %", "median", "95 %", "max");
  out += spread("images_a_class", "images a class");
  if (!all.contains("bytes")) return out;
  out += spread("width", "width") + spread("height", "height") +
         spread("shorter_side", "shorter side") + spread("bytes_an_image", "bytes an image");
  for (const auto& [kind, count] : all["kinds"].items()) {
    out += fmt::format("{} {}, ", count.get<long>(), kind);
  }
  out += fmt::format("{:.1f} MB\n", all["bytes"].get<double>() * 1e-6);
  if (!all.contains("mean")) return out;
  for (const char* name : {"mean", "std"}) {
    out += fmt::format("{:<5}", name);
    for (const Json& value : all[name]) out += fmt::format(" {:8.3f}", value.get<double>());
    out += "\n";
  }
  return out;
}

Exit run(const Config& config) {
  const data::Records records = open_records(config);
  const Look look = config.flag("pixels") ? Look::pixels : Look::header;
  const int workers = all_workers(config);
  std::vector<Looker> lookers(static_cast<std::size_t>(workers));
  std::vector<Facts> facts(static_cast<std::size_t>(in_order_window(workers)));
  RecordProgress progress(open_log(), records.size());
  catch_interrupt();
  Stats stats;
  InOrder work{records.size(), workers, {}, {}};
  work.make = [&](std::int64_t index, int slot, int worker) {
    facts[static_cast<std::size_t>(slot)] =
        lookers[static_cast<std::size_t>(worker)].look(records, index, look);
  };
  work.take = [&](std::int64_t index, int slot) {
    const Facts& of = facts[static_cast<std::size_t>(slot)];
    if (of.reason.empty()) {
      stats.add(of);
    } else {
      spdlog::warn("{}: {}", records.name(index), of.reason);
    }
    progress.done();
    return !interrupted();
  };
  in_order(work);
  if (interrupted()) fail(Exit::interrupted, "interrupted; no numbers without all images");
  const Json all = stats.json(records, look);
  std::fputs((config.flag("json") ? report_text(all) : text(all)).c_str(), stdout);
  return Exit::ok;
}

}  // namespace

Verb data_stats_verb() {
  return {"data stats", "classes, sizes and bytes of a data set; --pixels: mean and deviation",
          join(records_options(),
               {{{.name = "pixels",
                  .type = Type::flag,
                  .help = "decode everything, for mean and deviation of the colours (0..255)"},
                 all_workers_option(),
                 json_option()}}),
          run};
}

}  // namespace tunas::tools

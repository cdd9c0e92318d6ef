// tunas data pack: writes a data set into one file, as it is encoded or decoded (data/pack.h).
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <filesystem>
#include <optional>

#include "data/decode.h"
#include "data/pack.h"
#include "data/sampler.h"
#include "tools/data_work.h"
#include "tools/interrupt.h"
#include "tools/selection.h"
#include "tools/terminal.h"

namespace tunas::tools {
namespace {

using data::Payload;
using Json = nlohmann::ordered_json;

/// A record made ready; where it cannot be decoded, why.
struct Ready {
  std::vector<std::uint8_t> bytes;
  data::Size size;
  std::string reason;
};

/// How far an image is looked into that is packed as it is.
enum class Look : unsigned char { header, whole };

/// One thread's.
struct Maker {
  Look look = Look::header;
  data::Decoder decoder;
  data::Records::Scratch scratch;
  std::vector<std::uint8_t> rgb;

  void make(const data::Records& records, std::int64_t index, Payload payload, Ready& ready) {
    ready.reason.clear();
    try {
      if (records.verify) records.verify(index);
      const data::Content content = records.read(index, scratch);
      ready.size = decoder.open(content);
      const bool encoded = payload == Payload::encoded;
      if (encoded) ready.bytes.assign(content.bytes.begin(), content.bytes.end());
      if (encoded && look == Look::header) return;
      std::vector<std::uint8_t>& pixels = encoded ? rgb : ready.bytes;
      pixels.resize(3 * static_cast<std::size_t>(ready.size.h) *
                    static_cast<std::size_t>(ready.size.w));
      decoder.read({0, 0, ready.size.h, ready.size.w}, pixels.data());
    } catch (const Error& error) {
      if (error.code() != Exit::data) throw;
      ready.reason = error.what();
    }
  }
};

/// --payload, or what suits the records.
Payload payload_of(const Config& config, const data::Records& records) {
  data::Records::Scratch scratch;
  const bool pixels = records.read(0, scratch).channels != 0;
  if (!config.has("payload")) return pixels ? Payload::pixels : Payload::encoded;
  const bool encoded = config.text("payload") == "encoded";
  require(!(encoded && pixels), config.from("payload"), " encoded: ", records.spec,
          " holds pixels; pack it with --payload decoded");
  return encoded ? Payload::encoded : Payload::pixels;
}

/// Everything in stored order, or shuffled by the seed.
class PackOrder {
 public:
  PackOrder(const Config& config, std::int64_t size) {
    if (!config.has("shuffle")) return;
    const auto seed = static_cast<std::uint64_t>(config.integer("shuffle"));
    permutation_.emplace(size, PhiloxKey{seed, Purpose::order, 0, 0});
  }
  std::int64_t operator()(std::int64_t i) const { return permutation_ ? (*permutation_)(i) : i; }

 private:
  std::optional<data::Permutation> permutation_;
};

std::string provenance(const Config& config, std::int64_t left_out) {
  return Json({{"program", "tunas " TUNAS_VERSION},
               {"data", config.text("data")},
               {"split", config.text("split")},
               {"shuffle", config.has("shuffle") ? Json(config.integer("shuffle")) : Json(nullptr)},
               {"left_out", left_out}})
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

Exit run(const Config& config) {
  const std::string out = config.text("out");
  std::error_code error;
  require(!std::filesystem::exists(out, error), out,
          ": exists; remove it, or write to another --out");
  const data::Records records = open_records(config);
  const Payload payload = payload_of(config, records);
  const PackOrder order(config, records.size());
  const int workers = all_workers(config);
  std::vector<Maker> makers(static_cast<std::size_t>(workers));
  for (Maker& maker : makers) maker.look = config.flag("skip-bad") ? Look::whole : Look::header;
  std::vector<Ready> ready(static_cast<std::size_t>(in_order_window(workers)));
  RecordProgress progress(open_log(), records.size());
  catch_interrupt();
  data::PackWriter pack(out, payload);
  std::int64_t packed = 0, left_out = 0;
  InOrder work{records.size(), workers, {}, {}};
  work.make = [&](std::int64_t i, int slot, int worker) {
    makers[static_cast<std::size_t>(worker)].make(records, order(i), payload,
                                                  ready[static_cast<std::size_t>(slot)]);
  };
  work.take = [&](std::int64_t i, int slot) {
    const std::int64_t index = order(i);
    const Ready& record = ready[static_cast<std::size_t>(slot)];
    if (interrupted()) fail(Exit::interrupted, "interrupted; ", out, " was not written");
    if (record.reason.empty()) {
      const data::Place at = records.place(index);
      pack.add(
          {record.bytes, record.size, records.label(index), at.key.empty() ? at.file : at.key});
      ++packed;
    } else if (config.flag("skip-bad")) {
      spdlog::warn("{} is left out: {}", records.name(index), record.reason);
      ++left_out;
    } else {
      fail(Exit::data, records.name(index), ": ", record.reason,
           "; --skip-bad leaves such records out");
    }
    progress.done();
    return true;
  };
  in_order(work);
  if (packed == 0) fail(Exit::data, records.spec, ": none of its images can be decoded");
  pack.commit(provenance(config, left_out));
  const std::uint64_t bytes = pack.bytes();
  std::fputs(
      (config.flag("json")
           ? Json({{"images", packed}, {"left_out", left_out}, {"bytes", bytes}}).dump(2) + "\n"
           : fmt::format("{}: {} images, {} bytes\n", out, packed, bytes))
          .c_str(),
      stdout);
  return Exit::ok;
}

}  // namespace

Verb data_pack_verb() {
  return {"data pack", "writes a data set into one file, for --data pack:FILE",
          join(records_options(),
               {{{.name = "out", .unit = "FILE", .help = "the pack; must not exist"},
                 {.name = "payload",
                  .help = "images as they are, or as pixels, which take 10 times the room and no "
                          "decoding (default: encoded, decoded where the records are pixels)",
                  .choices = {"encoded", "decoded"}},
                 {.name = "shuffle",
                  .type = Type::integer,
                  .unit = "SEED",
                  .help = "put the records in an order drawn with this seed (default: as stored)",
                  .least = 0},
                 {.name = "skip-bad",
                  .type = Type::flag,
                  .help = "leave out records that cannot be decoded, naming them"},
                 all_workers_option(),
                 json_option()}}),
          run};
}

}  // namespace tunas::tools

// tunas data check: decodes every image of a data set wholly and names those that are broken.
#include <fmt/format.h>

#include <cstdio>

#include "data/decode.h"
#include "tools/data_work.h"
#include "tools/interrupt.h"
#include "tools/selection.h"
#include "tools/terminal.h"

namespace tunas::tools {
namespace {

using Json = nlohmann::ordered_json;

/// What is wrong with a record; no reason: nothing.
struct Fault {
  std::string reason;
  std::int64_t byte = -1;  // of the image, where decoding gave up; -1: it did not begin
};

/// One thread's.
struct Checker {
  data::Decoder decoder;
  data::Records::Scratch scratch;
  std::vector<std::uint8_t> rgb;

  Fault check(const data::Records& records, std::int64_t index) {
    bool decoding = false;
    try {
      if (records.verify) records.verify(index);
      const data::Content content = records.read(index, scratch);
      decoding = true;
      const data::Size size = decoder.open(content);
      rgb.resize(3 * static_cast<std::size_t>(size.h) * static_cast<std::size_t>(size.w));
      decoder.read({0, 0, size.h, size.w}, rgb.data());
      return {};
    } catch (const Error& error) {
      if (error.code() != Exit::data) throw;
      return {error.what(), decoding ? decoder.stopped_at() : -1};
    }
  }
};

/// A line of the report.
std::string line(const data::Records& records, std::int64_t index, const Fault& fault, bool json) {
  if (!json) {
    const std::string where =
        fault.byte < 0 ? "" : fmt::format(" (at byte {} of the image)", fault.byte);
    return records.name(index) + ": " + fault.reason + where + "\n";
  }
  const data::Place at = records.place(index);
  const Json object = {{"record", index},
                       {"file", at.file},
                       {"key", at.key.empty() ? Json(nullptr) : Json(at.key)},
                       {"offset", at.offset < 0 ? Json(nullptr) : Json(at.offset)},
                       {"byte", fault.byte < 0 ? Json(nullptr) : Json(fault.byte)},
                       {"reason", fault.reason}};
  return object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Exit run(const Config& config) {
  const data::Records records = open_records(config);
  const bool json = config.flag("json");
  const int workers = all_workers(config);
  std::vector<Checker> checkers(static_cast<std::size_t>(workers));
  std::vector<Fault> faults(static_cast<std::size_t>(in_order_window(workers)));
  RecordProgress progress(open_log(), records.size());
  catch_interrupt();
  std::int64_t checked = 0, bad = 0;
  InOrder work{records.size(), workers, {}, {}};
  work.make = [&](std::int64_t index, int slot, int worker) {
    faults[static_cast<std::size_t>(slot)] =
        checkers[static_cast<std::size_t>(worker)].check(records, index);
  };
  work.take = [&](std::int64_t index, int slot) {
    const Fault& fault = faults[static_cast<std::size_t>(slot)];
    ++checked;
    if (!fault.reason.empty()) {
      ++bad;
      std::fputs(line(records, index, fault, json).c_str(), stdout);
      std::fflush(stdout);
    }
    progress.done(fmt::format("{} bad", bad));
    return !interrupted();
  };
  in_order(work);
  const std::string end = json ? Json({{"checked", checked}, {"bad", bad}}).dump() + "\n"
                               : fmt::format("{} images, {} bad\n", checked, bad);
  std::fputs(end.c_str(), stdout);
  if (checked < records.size()) {
    fail(Exit::interrupted, "interrupted; ", checked, " of ", records.size(), " images checked");
  }
  return bad > 0 ? Exit::data : Exit::ok;
}

}  // namespace

Verb data_check_verb() {
  return {"data check", "decodes every image of a data set, names those that are broken",
          join(records_options(), {{all_workers_option(), json_option()}}), run};
}

}  // namespace tunas::tools

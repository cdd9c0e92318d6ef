// tunas data index: walks over the archives of a data set once and keeps where their samples lie.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>

#include "data/archives.h"
#include "tools/data_work.h"
#include "tools/interrupt.h"
#include "tools/selection.h"
#include "tools/terminal.h"

namespace tunas::tools {
namespace {

using Json = nlohmann::ordered_json;
using data::IndexReport;

struct Indexed {
  data::Records records;
  std::vector<IndexReport> archives;  // empty: the format needs no index
};

Indexed index(const Config& config) {
  const std::string& spec = config.text("data");
  const std::size_t colon = spec.find(':');
  const data::ArchiveFormat* format = data::archive_format(spec.substr(0, colon));
  if (!format || colon == std::string::npos || colon + 1 == spec.size()) {
    return {open_records(config), {}};
  }
  const auto terminal = open_log();
  catch_interrupt();
  data::Indexing indexing;
  indexing.keep_from_bytes = 0;
  indexing.reuse = config.flag("rebuild") ? data::Reuse::fresh : data::Reuse::stored;
  indexing.progress = [&](std::int64_t done, std::int64_t files) {
    if (interrupted()) {
      fail(Exit::interrupted, "interrupted; ", done, " of ", files,
           " archives are indexed and need not be again");
    }
    if (done < files && terminal->due()) {
      terminal->status(fmt::format("{} of {} archives", done, files));
    }
  };
  Indexed indexed;
  indexed.records =
      data::open_archives(*format, spec.substr(colon + 1), indexing, &indexed.archives);
  return indexed;
}

std::string describe(const Indexed& indexed) {
  const auto files = indexed.archives.size();
  std::string text = fmt::format("{} images, classes 0 to {}\n", indexed.records.size(),
                                 indexed.records.classes() - 1);
  if (files == 0) return text + "needs no index\n";
  const auto count = [&](auto which) {
    return std::count_if(indexed.archives.begin(), indexed.archives.end(), which);
  };
  const auto reused = count([](const IndexReport& report) { return report.reused; });
  const auto lost = count([](const IndexReport& report) { return report.index.empty(); });
  text += fmt::format("{} archives: {} indexed, {} had their index already\n", files,
                      static_cast<long>(files) - reused, reused);
  if (lost > 0) {
    text += fmt::format("{} indices could not be kept, neither beside {} nor in {}\n", lost,
                        indexed.archives.front().archive,
                        data::index_in_cache(indexed.archives.front().archive));
  }
  return text;
}

Json json(const Indexed& indexed) {
  Json all = {{"images", indexed.records.size()}, {"classes", indexed.records.classes()}};
  Json archives = Json::array();
  for (const IndexReport& report : indexed.archives) {
    archives.push_back({{"archive", report.archive},
                        {"images", report.samples},
                        {"index", report.index.empty() ? Json(nullptr) : Json(report.index)},
                        {"reused", report.reused}});
  }
  all["archives"] = std::move(archives);
  return all;
}

Exit run(const Config& config) {
  const Indexed indexed = index(config);
  std::fputs((config.flag("json") ? report_text(json(indexed)) : describe(indexed)).c_str(),
             stdout);
  return Exit::ok;
}

}  // namespace

Verb data_index_verb() {
  return {
      "data index", "indexes tars and TFRecords once, counts what a data set holds",
      join(records_options(),
           {{{.name = "rebuild", .type = Type::flag, .help = "even where there is a good index"},
             json_option()}}),
      run};
}

}  // namespace tunas::tools

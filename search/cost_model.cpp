#include "search/cost_model.h"

#include <algorithm>
#include <filesystem>

#include "engine/file.h"
#include "kernels/error.h"
#include "search/embedded.h"
#include "search/locate.h"

namespace tunas::search {
namespace {

constexpr const char* kWayOut = "; use --cost macs, or --cost FILE with a table of your own";

CostTable published_table(const Space& space) {
  const std::string path = "latency/" + space.name + ".json";
  const auto files = embedded_files();
  const auto file = std::find_if(files.begin(), files.end(),
                                 [&](const EmbeddedFile& f) { return f.path == path; });
  require(file != files.end(), path, " is not part of this build; build the program again");
  return CostTable::parse(std::string(file->text), path, space);
}

void require_resolution(const CostTable& table, const std::string& name, int resolution) {
  require(table.resolution() == resolution, "the latency table of ", name, " holds for images of ",
          table.resolution(), " pixels, not ", resolution, kWayOut);
}

bool single_network(const Space& space) {
  return std::all_of(space.decisions.begin(), space.decisions.end(),
                     [](const Decision& d) { return d.options.size() == 1; });
}

}  // namespace

CostModel CostModel::pixel1(const Space& space, int resolution) {
  CostModel model(space, resolution);
  const bool single = single_network(space);
  std::string reasons;
  for (const std::string& name : Space::names()) {
    if (!Space::is_search_space(name)) continue;
    const Space published = Space::named(name);
    if (single) {
      const Location location = locate(space, published);
      model.located_ = location.arch;
      reasons += (reasons.empty() ? "" : "; ") + name + ": " + location.reason;
    }
    if (!model.located_ && published.blocks != space.blocks) continue;
    model.table_ = published_table(published);
    model.unit_ = model.table_->unit();
    model.default_target_ = published.default_target;
    require_resolution(*model.table_, name, resolution);
    return model;
  }
  require(!single, space.name, " is in none of the spaces with a latency table (", reasons, ")",
          kWayOut);
  fail(Exit::usage, space.name, " is not one of the three published spaces, so no latency table ",
       "holds for it", kWayOut);
}

CostModel CostModel::table(const std::string& file, const Space& space, int resolution) {
  require(std::filesystem::is_regular_file(file), "cost '", file,
          "' is neither pixel1, macs or params nor a file that can be read");
  CostModel model(space, resolution);
  model.table_ = CostTable::parse(engine::read_file(file), file, space);
  model.unit_ = model.table_->unit();
  require_resolution(*model.table_, file, resolution);
  return model;
}

CostModel CostModel::macs(const Space& space, int resolution) {
  CostModel model(space, resolution);
  model.count_ = Count::macs;
  model.unit_ = "multiply-adds";
  return model;
}

CostModel CostModel::params(const Space& space, int resolution) {
  CostModel model(space, resolution);
  model.count_ = Count::params;
  model.unit_ = "parameters";
  return model;
}

CostModel CostModel::make(const std::string& kind, const Space& space, int resolution) {
  if (kind == "pixel1") return pixel1(space, resolution);
  if (kind == "macs") return macs(space, resolution);
  if (kind == "params") return params(space, resolution);
  return table(kind, space, resolution);
}

double CostModel::cost(const Arch& arch) const {
  if (count_ == Count::none) {
    check(space_, arch);
    return table_->cost(located_ ? *located_ : arch);
  }
  const Counts counts = count(resolve(space_, arch, resolution_));
  return count_ == Count::macs ? counts.macs : counts.params();
}

}  // namespace tunas::search

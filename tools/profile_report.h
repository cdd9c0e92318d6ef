// What `tunas profile` found, as text for people, as JSON, and as a trace for Chrome's viewer
// (chrome://tracing, ui.perfetto.dev).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "engine/profile.h"
#include "search/ledger.h"

namespace tunas::tools {

struct ProfileReport {
  std::string network, space, indices;  // space and indices empty: a network by itself
  std::string pass;                     // train, search, eval
  int images = 0, scored = 0;           // of one step: trained on or evaluated; validated
  int resolution = 0, steps = 0;
  std::string device, type, kernels;  // "2 threads"; "f32"; of --kernels
  search::Plan plan;
  double copy = 0;                        // bytes a second
  double seconds = 0;                     // a step, unwatched: the median
  double watched = 0;                     // a step, watched: the mean
  double floor = 0;                       // bytes a step at the full-fusion floor
  std::vector<search::LedgerRow> ledger;  // of a training pass
  const engine::Profile* profile = nullptr;

  std::string text(engine::By by) const;
  std::string ledger_text() const;
  nlohmann::ordered_json json() const;
  nlohmann::ordered_json json_ledger() const;
  std::string trace() const;
};

}  // namespace tunas::tools

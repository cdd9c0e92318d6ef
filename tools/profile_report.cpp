#include "tools/profile_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace tunas::tools {
namespace {

using engine::By;
using engine::Share;
using Json = nlohmann::ordered_json;

/// A share of one step, in the units of the report.
struct Row {
  Share share;
  double calls, seconds, bytes, flops;  // a step
  double part;                          // of the step's time
  double speed, of_copy;                // bytes a second; of the copy's
};

Row row(const ProfileReport& report, const Share& share) {
  const double steps = report.steps;
  Row r{share, 0, 0, 0, 0, 0, 0, 0};
  r.calls = static_cast<double>(share.calls) / steps;
  r.seconds = share.seconds / steps;
  r.bytes = share.cost.bytes() / steps;
  r.flops = share.cost.flops / steps;
  r.part = r.seconds / report.watched;
  r.speed = r.seconds > 0 ? r.bytes / r.seconds : 0;
  r.of_copy = r.speed / report.copy;
  return r;
}

std::vector<Row> rows(const ProfileReport& report, By by) {
  std::vector<Row> all;
  for (const Share& share : engine::shares(report.profile->calls(), by)) {
    all.push_back(row(report, share));
  }
  return all;
}

Row total(const ProfileReport& report) {
  Share sum;
  for (const engine::Profile::Call& call : report.profile->calls()) {
    ++sum.calls;
    sum.seconds += call.seconds;
    sum.cost += call.cost;
  }
  return row(report, sum);
}

/// Seconds a step of what no kernel call launched, by name.
std::map<std::string, double> copies(const ProfileReport& report) {
  std::map<std::string, double> sums;
  for (const GpuWork& work : report.profile->work()) {
    if (work.call < 0) sums[work.name] += work.seconds / report.steps;
  }
  return sums;
}

/// "bottleneck 24 > 72 > 40, 5x5/2, squeeze-excite" of a layer's path; empty for other names.
std::string describe(const search::Plan& plan, const std::string& path) {
  for (const search::PlanLayer& p : plan.layers) {
    if (fmt::format("blocks/{}/layers/{}", p.block, p.layer) != path) continue;
    std::string text;
    if (p.spec->kind == search::LayerKind::bottleneck) {
      text = fmt::format("bottleneck {} > {} > {}", p.c_in.now, p.c_exp.now, p.c_out.now);
    } else if (p.spec->kind == search::LayerKind::global_pool) {
      return "global pool";
    } else {
      const bool conv = p.spec->kind == search::LayerKind::conv;
      text = fmt::format("{} {} > {}", conv ? "conv" : "separable", p.c_in.now, p.c_out.now);
    }
    for (const search::KernelChoice& choice : p.kernels) text += fmt::format(", k{}", choice.k);
    if (p.spec->stride > 1) text += fmt::format("/{}", p.spec->stride);
    if (p.squeeze_excite > 0) text += ", squeeze-excite";
    return text;
  }
  return "";
}

std::string line(const Row& r, const std::string& name) {
  return fmt::format("{:>6.0f}{:>10.3f}{:>8.1f}{:>9.1f}{:>9.1f}{:>8.0f}{:>9.1f}{:>9.0f}  {}\n",
                     r.calls, 1e3 * r.seconds, 100 * r.part, 1e-6 * r.bytes, 1e-9 * r.speed,
                     100 * r.of_copy, 1e-9 * r.flops,
                     r.seconds > 0 ? 1e-9 * r.flops / r.seconds : 0, name);
}

/// A row that is time and nothing else.
std::string time_line(const ProfileReport& report, double seconds, const std::string& name) {
  return fmt::format("{:>6}{:>10.3f}{:>8.1f}{:>53}  {}\n", "", 1e3 * seconds,
                     100 * seconds / report.watched, "", name);
}

std::string name_of(const ProfileReport& report, const Share& share, By by) {
  const std::string layer = share.layer.empty() ? "all weights" : share.layer;
  if (by == By::kernel) return share.pass + " " + share.kernel;
  if (by == By::both) return share.pass + " " + layer + " " + share.kernel;
  const std::string what = describe(report.plan, share.layer);
  return what.empty() ? layer : fmt::format("{:<18} {}", layer, what);
}

std::string ledger_line(const search::LedgerRow& r, const std::string& name) {
  return fmt::format(
      "{:>9.2f}{:>9.2f}{:>9.2f}{:>10.2f}{:>9.2f}{:>9.2f}{:>10.2f}{:>9.2f}{:>9.2f}  {}\n",
      1e-6 * r.composed.forward, 1e-6 * r.fused.forward, 1e-6 * r.floor.forward,
      1e-6 * r.composed.backward, 1e-6 * r.fused.backward, 1e-6 * r.floor.backward,
      1e-6 * r.composed.sum(), 1e-6 * r.fused.sum(), 1e-6 * r.floor.sum(), name);
}

std::string table(const ProfileReport& report, By by) {
  const char* heads[] = {"pass, kernel", "layer", "pass, layer, kernel"};
  std::string text =
      fmt::format("{:>6}{:>10}{:>8}{:>9}{:>9}{:>8}{:>9}{:>9}  {}\n", "calls", "ms", "% step", "MB",
                  "GB/s", "% copy", "GFLOP", "GFLOP/s", heads[static_cast<int>(by)]);
  for (const Row& r : rows(report, by)) text += line(r, name_of(report, r.share, by));
  const Row all = total(report);
  text += line(all, "all kernels");
  double outside = report.watched - all.seconds;
  for (const auto& [name, seconds] : copies(report)) {
    text += time_line(report, seconds, name);
    outside -= seconds;
  }
  return text + time_line(report, outside, "outside of them");
}

Json json_rows(const ProfileReport& report, By by) {
  Json all = Json::array();
  for (const Row& r : rows(report, by)) {
    Json one = Json::object();
    if (by != By::layer) one["pass"] = r.share.pass;
    if (by != By::kernel) one["layer"] = r.share.layer;
    if (by != By::layer) one["kernel"] = r.share.kernel;
    if (by == By::layer) one["what"] = describe(report.plan, r.share.layer);
    one.update({{"calls", r.calls},
                {"seconds", r.seconds},
                {"share", r.part},
                {"bytes", r.bytes},
                {"flops", r.flops},
                {"bytes_per_second", r.speed},
                {"of_copy", r.of_copy}});
    all.push_back(one);
  }
  return all;
}

Json or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

}  // namespace

std::string ProfileReport::ledger_text() const {
  std::string text = fmt::format(
      "{:>27}{:>28}{:>28}\n{:>9}{:>9}{:>9}{:>10}{:>9}{:>9}{:>10}{:>9}{:>9}  a training pass, MB an "
      "image, {}\n",
      "forward", "backward", "both", "composed", "fused", "floor", "composed", "fused", "floor",
      "composed", "fused", "floor", type);
  for (const search::LedgerRow& row : ledger) {
    const std::string what = describe(plan, row.layer);
    text += ledger_line(row, what.empty() ? row.layer : fmt::format("{:<18} {}", row.layer, what));
  }
  const search::LedgerRow all = search::total(ledger);
  return text + ledger_line(all, fmt::format("total; fused is {:.2f} times the floor",
                                             all.fused.sum() / all.floor.sum()));
}

std::string ProfileReport::text(By by) const {
  const Row all = total(*this);
  const double bound = floor / copy;
  std::string text = fmt::format("{}, {}, {} images", network, pass, images);
  if (scored > 0) text += fmt::format(" and {} validated", scored);
  text += fmt::format(" at {} pixels, {} on {}, kernels {}\n", resolution, type, device, kernels);
  if (!indices.empty()) text += fmt::format("indices {} of {}\n", indices, space);
  text += fmt::format("times are means over {} steps, from {}{}\n\n", steps, profile->clock(),
                      profile->refusal().empty() ? "" : " (" + profile->refusal() + ")");
  text += table(*this, by) + "\n";
  if (by == By::layer) text += ledger_text() + "\n";
  text += fmt::format("step         {:.2f} ms, {:.1f} images/s ({:.2f} ms while watched)\n",
                      1e3 * seconds, images / seconds, 1e3 * watched);
  text += fmt::format("copy         {:.1f} GB/s\n", 1e-9 * copy);
  text +=
      fmt::format("declared     {:.1f} MB a step, {:.1f} GB/s, {:.0f} % of copy\n",
                  1e-6 * all.bytes, 1e-9 * all.bytes / seconds, 100 * all.bytes / seconds / copy);
  text += fmt::format(
      "full fusion  {:.1f} MB a step, {:.1f} an image; at the speed of copy {:.2f} ms or {:.1f} "
      "images/s\n             this step declares {:.2f} times the bytes (weights included) and "
      "takes {:.1f} times the "
      "time\n",
      1e-6 * floor, 1e-6 * floor / images, 1e3 * bound, images / bound, all.bytes / floor,
      seconds / bound);
  return text;
}

Json ProfileReport::json_ledger() const {
  const auto moved = [](const search::Moved& bytes) {
    return Json{{"forward", bytes.forward}, {"backward", bytes.backward}};
  };
  Json all = Json::array();
  for (const search::LedgerRow& row : ledger) {
    all.push_back({{"layer", row.layer},
                   {"what", describe(plan, row.layer)},
                   {"composed", moved(row.composed)},
                   {"fused", moved(row.fused)},
                   {"floor", moved(row.floor)}});
  }
  return all;
}

Json ProfileReport::json() const {
  const Row all = total(*this);
  double copied = 0;
  for (const auto& [name, time] : copies(*this)) copied += time;
  return {{"network", network},
          {"space", or_null(space)},
          {"indices", or_null(indices)},
          {"pass", pass},
          {"images", images},
          {"validated", scored},
          {"resolution", resolution},
          {"device", device},
          {"type", type},
          {"kernels", kernels},
          {"steps", steps},
          {"clock", profile->clock()},
          {"cupti_refused", or_null(profile->refusal())},
          {"copy_bytes_per_second", copy},
          {"step_seconds", seconds},
          {"watched_step_seconds", watched},
          {"images_per_second", images / seconds},
          {"kernel_seconds", all.seconds},
          {"copy_seconds", copied},
          {"outside_seconds", watched - all.seconds - copied},
          {"bytes", all.bytes},
          {"flops", all.flops},
          {"of_copy", all.bytes / seconds / copy},
          {"fusion_bytes", floor},
          {"times_fusion", seconds / (floor / copy)},
          {"by_kernel", json_rows(*this, By::kernel)},
          {"by_layer", json_rows(*this, By::layer)},
          {"by_call", json_rows(*this, By::both)},
          {"ledger", json_ledger()}};
}

namespace {

constexpr int kCalls = 1, kGpu = 2;  // threads of the trace

/// Times in microseconds, as the format has it.
Json event(const std::string& name, const char* category, int thread, double begin, double end) {
  return {{"name", name},
          {"cat", category},
          {"ph", "X"},
          {"ts", 1e6 * begin},
          {"dur", 1e6 * (end - begin)},
          {"pid", 1},
          {"tid", thread}};
}

Json thread_name(int thread, const char* name) {
  return {{"name", "thread_name"},
          {"ph", "M"},
          {"pid", 1},
          {"tid", thread},
          {"args", {{"name", name}}}};
}

}  // namespace

std::string ProfileReport::trace() const {
  const std::vector<engine::Profile::Call>& calls = profile->calls();
  Json events = Json::array({thread_name(kCalls, "kernel calls")});
  // A pass and a layer last from their first to their last call.
  const auto stretches = [&](const char* category, auto name) {
    for (std::size_t i = 0; i < calls.size();) {
      std::size_t last = i;
      while (last + 1 < calls.size() && name(calls[last + 1]) == name(calls[i]) &&
             calls[last + 1].pass == calls[i].pass) {
        ++last;
      }
      events.push_back(event(name(calls[i]), category, kCalls, calls[i].begin,
                             calls[last].begin + calls[last].seconds));
      i = last + 1;
    }
  };
  stretches("pass", [](const engine::Profile::Call& call) { return std::string(call.pass); });
  stretches("layer", [](const engine::Profile::Call& call) { return std::string(call.layer); });
  for (const engine::Profile::Call& call : calls) {
    Json one =
        event(std::string(call.kernel), "kernel", kCalls, call.begin, call.begin + call.seconds);
    one["args"] = {{"pass", call.pass},
                   {"layer", call.layer},
                   {"bytes", call.cost.bytes()},
                   {"flops", call.cost.flops}};
    events.push_back(one);
  }
  if (profile->clock() == std::string_view("CUPTI")) {  // from events: the calls once more
    events.push_back(thread_name(kGpu, "GPU"));
    for (const GpuWork& work : profile->work()) {
      events.push_back(event(work.name, "gpu", kGpu, work.begin, work.begin + work.seconds));
    }
  }
  std::string text = "{\"traceEvents\": [\n";
  for (const Json& one : events) text += one.dump() + (&one == &events.back() ? "\n" : ",\n");
  return text + "]}\n";
}

}  // namespace tunas::tools

#include "search/not_finite.h"

#include <cmath>

#include "kernels/error.h"

namespace tunas::search {
namespace {

constexpr char kClassifier[] = "classifier";

std::string place(const NotFinite& at) {
  const std::string step = "step " + std::to_string(at.step);
  const std::string shard = ", shard " + std::to_string(at.shard);
  switch (at.where) {
    case NotFinite::Where::forward:
      return step + shard + ", forward from " + at.layer + " on";
    case NotFinite::Where::backward:
      return step + ", backward from " + at.layer + " on";
    case NotFinite::Where::held_out:
      return step + shard + ", on held-out images from " + at.layer + " on";
  }
  return step;
}

}  // namespace

std::string NotFinite::text() const {
  return place(*this) + ": numbers are not finite; " +
         (where == Where::held_out ? "the controller learns nothing from this step"
                                   : "the step is skipped");
}

std::string layer_at(const engine::ParamStore& params, std::size_t offset) {
  const engine::Param* last = nullptr;  // that begins at or before it
  for (const engine::Param& param : params.params()) {
    if (param.weight.running || static_cast<std::size_t>(param.weight.offset) > offset) continue;
    last = &param;
  }
  require(last != nullptr, "offset ", offset, " of a network without parameters");
  std::string layer = last->name.substr(0, last->name.rfind('/'));
  if (layer.ends_with("/norm")) layer.resize(layer.rfind('/'));
  return layer;
}

std::optional<NotFinite> find_not_finite(const engine::ParamStore& params,
                                         const StepOutcomes& step) {
  using Where = NotFinite::Where;
  const auto first = [&](std::span<const Outcome> of, Where where) -> std::optional<NotFinite> {
    for (std::size_t s = 0; s < of.size(); ++s) {
      if (std::isfinite(of[s].loss)) continue;
      const std::string layer = of[s].origin ? layer_at(params, *of[s].origin) : kClassifier;
      return NotFinite{where, step.step, static_cast<int>(s), layer};
    }
    return std::nullopt;
  };
  if (auto found = first(step.trained, Where::forward)) return found;
  if (step.verdict.not_finite > 0) {
    return NotFinite{Where::backward, step.step, 0, layer_at(params, step.verdict.last)};
  }
  return first(step.scored, Where::held_out);
}

void NotFiniteStreak::add(const std::optional<NotFinite>& step) {
  length_ = step ? length_ + 1 : 0;
  if (length_ < kMost) return;
  fail(Exit::numeric, "numbers were not finite in ", kMost, " steps in a row, the last time in ",
       place(*step), "; a smaller --lr may help");
}

}  // namespace tunas::search

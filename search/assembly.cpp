#include "search/assembly.h"

#include <utility>

#include "kernels/error.h"
#include "search/space_rules.h"

namespace tunas::search {
namespace {

void check_width(int width, const std::string& place, const char* what) {
  require(width >= 8 && width % 8 == 0, place, ": ", what, " has ", width,
          " channels, but here widths are multiples of 8; choose a network whose widths are");
}

}  // namespace

Assembly::Assembly(std::string name, std::string where) : where_(std::move(where)) {
  space_.name = std::move(name);
}

void Assembly::open(int filters, const std::string& place) {
  check_width(filters, place, "its output");
  space_.blocks.emplace_back().filters = {filters};
  width_ = filters;
}

void Assembly::activation(Act act) {
  if (act == Act::none) return;
  Layer layer;
  layer.kind = LayerKind::activation;
  layer.act = act;
  space_.blocks.back().layers.push_back(layer);
}

void Assembly::stem(int kernel, int stride, int filters, Act act) {
  open(filters, where_ + ": the first convolution");
  Layer layer;
  layer.kernels = {kernel};
  layer.stride = stride;
  space_.blocks.back().layers.push_back(layer);
  activation(act);
}

void Assembly::mobile(const MobileLayer& wanted, const std::string& place) {
  require(!wanted.residual || (wanted.stride == 1 && wanted.c_out == width_), place,
          ": a layer that is added to its input has stride ", wanted.stride, " and turns ", width_,
          " channels into ", wanted.c_out, "; drop its shortcut");
  require(!wanted.squeeze_excite || wanted.c_exp > 0, place,
          ": squeeze-and-excite without an expansion is not supported");
  if (wanted.c_exp > 0) check_width(wanted.c_exp, place, "its expansion");
  Layer layer;
  layer.kind = wanted.c_exp > 0 ? LayerKind::bottleneck : LayerKind::separable;
  layer.kernels = {wanted.kernel};
  layer.stride = wanted.stride;
  layer.act = wanted.act;
  layer.residual = wanted.residual;
  if (wanted.c_exp > 0) {
    const bool kept = wanted.expansion > 0 &&
                      round_filters(width_, wanted.expansion, space_.divisor) == wanted.c_exp;
    layer.expansions = {kept ? wanted.expansion : static_cast<double>(wanted.c_exp) / width_};
    layer.squeeze_excite = {wanted.squeeze_excite ? 1 : 0};
    layer.gate = wanted.gate;
  }
  if (!wanted.residual) open(wanted.c_out, place);
  space_.blocks.back().layers.push_back(layer);
}

void Assembly::pointwise(int filters, Act act, Bias bias) {
  open(filters, where_ + ": a convolution of the head");
  Layer layer;
  layer.batch_norm = bias == Bias::batch_norm;
  space_.blocks.back().layers.push_back(layer);
  activation(act);
}

void Assembly::pool() {
  Layer layer;
  layer.kind = LayerKind::global_pool;
  space_.blocks.back().layers.push_back(layer);
}

Space Assembly::finish() {
  check_rules(space_, where_);
  space_.number_decisions();
  return space_;
}

}  // namespace tunas::search

#include "engine/tape.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "kernels/error.h"
#include "kernels/mix.h"

namespace tunas::engine {

Tape::Tape(Stream stream, Arena& arena, ParamStore& params, DType type)
    : stream_(stream), arena_(&arena), params_(&params), type_(type), gradients_(arena) {
  // Larger than any published space needs, so that a step does not grow them.
  nodes_.reserve(2048);
  closures_.reserve(1024);
}

void Tape::reset(Pass pass) {
  pass_ = pass;
  forward_ = true;
  arena_->reset();
  nodes_.clear();
  closures_.clear();
  gradients_.reset();
}

Var Tape::make(Tensor shape, Gradient gradient, DType grad_type) {
  shape.data = arena_->alloc(shape.bytes());
  nodes_.push_back({shape, {}, gradient, grad_type, closures_.size()});
  return {static_cast<int>(nodes_.size()) - 1};
}

Var Tape::activation(int n, int h, int w, int c, Gradient gradient) {
  return make({nullptr, type_, n, h, w, c}, gradient, type_);
}

Var Tape::floats(int n, int h, int w, int c, Gradient gradient) {
  return make({nullptr, DType::f32, n, h, w, c}, gradient, DType::f32);
}

Var Tape::logits(int n, int c) {
  return make({nullptr, DType::f32, n, 1, 1, c}, Gradient::wanted, type_);
}

Var Tape::unstored(int n, int h, int w, int c) {
  nodes_.push_back({{nullptr, type_, n, h, w, c}, {}, Gradient::wanted, type_, closures_.size()});
  return {mark() - 1};
}

Tensor Tape::store(Var v) {
  Tensor& value = nodes_[static_cast<std::size_t>(v.id)].value;
  value.data = arena_->alloc(value.bytes());
  return value;
}

const Tape::Deferral& Tape::defer(Var v, const Deferral& left) {
  return nodes_[static_cast<std::size_t>(v.id)].deferral.emplace(left);
}

Tensor Tape::gradient_floats(int n, int h, int w, int c) {
  return gradients_.alloc({nullptr, DType::f32, n, h, w, c});
}

Tape::Slot Tape::grad_slot(Var v) {
  Node& node = nodes_[static_cast<std::size_t>(v.id)];
  if (node.gradient == Gradient::none) return {};
  if (!node.grad) {
    Tensor shape = node.value;
    shape.type = node.grad_type;
    node.grad = gradients_.alloc(shape);
    return {node.grad, Write::overwrite};
  }
  if (!gradients_.shared(node.grad)) return {node.grad, Write::accumulate};
  const Tensor theirs = node.grad, own = replace_grad(v);
  kernels::mix(stream_, {1, {1}, {{theirs}}, own});
  return {own, Write::accumulate};
}

Tensor Tape::replace_grad(Var v) {
  Node& node = nodes_[static_cast<std::size_t>(v.id)];
  node.deferral.reset();
  if (!gradients_.shared(node.grad)) return node.grad;
  const Tensor own = gradients_.alloc(node.grad);
  gradients_.release(node.grad);
  return node.grad = own;
}

void Tape::share_grad(Var to, Var from) {
  const Tensor& grad = nodes_[static_cast<std::size_t>(from.id)].grad;
  nodes_[static_cast<std::size_t>(to.id)].grad = grad;
  gradients_.share(grad);
}

void Tape::drop(Node& node) {
  if (node.value) arena_->free(node.value.data, node.value.bytes());
  gradients_.release(node.grad);
  if (node.deferral) gradients_.release(node.deferral->spread);
  node.value.data = nullptr;
  node.deferral.reset();
}

void Tape::backward() {
  const Range pass(stream_, &Observer::pass, "backward");
  forward_ = false;
  std::optional<Range> layer;  // one for each run of closures of the same layer
  const char* name = nullptr;
  while (closures_.size() > 0) {
    const Closures<Tape>::Entry entry = closures_.back();
    if (entry.layer != name) {
      name = entry.layer;
      layer.reset();
      layer.emplace(stream_, &Observer::layer, name);
    }
    entry.run(entry.closure, *this);
    closures_.pop_back();
    // Values made by this op (or after it) have no reader left.
    const int born = closures_.size();
    while (!nodes_.empty() && nodes_.back().born >= born && born > 0) {
      drop(nodes_.back());
      nodes_.pop_back();
    }
  }
}

void Tape::release(int from, std::initializer_list<Var> keep) {
  if (recording()) return;
  for (int id = from; id < mark(); ++id) {
    const bool kept = std::any_of(keep.begin(), keep.end(), [id](Var v) { return v.id == id; });
    if (!kept) drop(nodes_[static_cast<std::size_t>(id)]);
  }
}

}  // namespace tunas::engine

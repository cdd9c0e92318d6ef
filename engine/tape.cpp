#include "engine/tape.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "kernels/error.h"

namespace tunas::engine {
namespace {

constexpr std::size_t kChunk = std::size_t{64} << 10;

}  // namespace

Tape::Tape(Stream stream, Arena& arena, ParamStore& params, DType type)
    : stream_(stream), arena_(&arena), params_(&params), type_(type) {
  // Larger than any published space needs, so that a step does not grow them.
  nodes_.reserve(2048);
  owners_.reserve(256);
  entries_.reserve(1024);
}

void Tape::reset(Pass pass) {
  pass_ = pass;
  arena_->reset();
  nodes_.clear();
  owners_.clear();
  entries_.clear();
  chunk_ = offset_ = 0;
}

Var Tape::make(Tensor shape, Gradient gradient, DType grad_type) {
  shape.data = arena_->alloc(shape.bytes());
  nodes_.push_back({shape, {}, gradient, grad_type, static_cast<int>(entries_.size())});
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

Tape::Slot Tape::grad_slot(Var v) {
  Node& node = nodes_[static_cast<std::size_t>(v.id)];
  if (node.gradient == Gradient::none) return {};
  if (node.grad) return {node.grad, Write::accumulate};
  node.grad = node.value;
  node.grad.type = node.grad_type;
  node.grad.data = arena_->alloc(node.grad.bytes());
  return {node.grad, Write::overwrite};
}

void Tape::share_grad(Var to, Var from) {
  Node& node = nodes_[static_cast<std::size_t>(to.id)];
  Node& owner = nodes_[static_cast<std::size_t>(from.id)];
  if (node.gradient == Gradient::none) return;
  require(owner.grad && !node.grad, "share_grad: the gradient of tensor ", from.id,
          " must be there, that of tensor ", to.id, " must not");
  const Tensor &a = node.value, &b = owner.value;
  require(a.n == b.n && a.h == b.h && a.w == b.w && a.c == b.c && node.grad_type == owner.grad.type,
          "share_grad: tensors ", to.id, " and ", from.id, " differ in shape or type");
  if (owner.shared < 0) {
    owner.shared = static_cast<int>(owners_.size());
    owners_.push_back(1);
  }
  ++owners_[static_cast<std::size_t>(owner.shared)];
  node.shared = owner.shared;
  node.grad = owner.grad;
}

void* Tape::place(std::size_t bytes, std::size_t align) {
  offset_ = (offset_ + align - 1) / align * align;
  if (chunk_ < chunks_.size() && offset_ + bytes > kChunk) {
    ++chunk_;
    offset_ = 0;
  }
  if (chunk_ == chunks_.size()) chunks_.push_back(std::make_unique<char[]>(kChunk));
  void* at = chunks_[chunk_].get() + offset_;
  offset_ += bytes;
  return at;
}

void Tape::drop(Node& node) {
  if (node.value) arena_->free(node.value.data, node.value.bytes());
  if (node.grad && (node.shared < 0 || --owners_[static_cast<std::size_t>(node.shared)] == 0)) {
    arena_->free(node.grad.data, node.grad.bytes());
  }
  node.value.data = node.grad.data = nullptr;
}

void Tape::backward() {
  const Range pass(stream_, &Observer::pass, "backward");
  std::optional<Range> layer;  // one for each run of closures of the same layer
  const char* name = nullptr;
  while (!entries_.empty()) {
    const Entry entry = entries_.back();
    if (entry.layer != name) {
      name = entry.layer;
      layer.reset();
      layer.emplace(stream_, &Observer::layer, name);
    }
    entry.run(entry.closure, *this);
    entries_.pop_back();
    // Values made by this op (or after it) have no reader left.
    const int born = static_cast<int>(entries_.size());
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

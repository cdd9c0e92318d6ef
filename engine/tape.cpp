#include "engine/tape.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "kernels/error.h"
#include "kernels/mix.h"

namespace tunas::engine {
namespace {

constexpr std::size_t kChunk = std::size_t{64} << 10;

}  // namespace

Tape::Tape(Stream stream, Arena& arena, ParamStore& params, DType type)
    : stream_(stream), arena_(&arena), params_(&params), type_(type) {
  // Larger than any published space needs, so that a step does not grow them.
  nodes_.reserve(2048);
  entries_.reserve(1024);
}

void Tape::reset(Pass pass) {
  pass_ = pass;
  forward_ = true;
  arena_->reset();
  nodes_.clear();
  entries_.clear();
  shared_.clear();
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

Var Tape::unstored(int n, int h, int w, int c) {
  nodes_.push_back({{nullptr, type_, n, h, w, c},
                    {},
                    Gradient::wanted,
                    type_,
                    static_cast<int>(entries_.size())});
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
  Tensor floats{nullptr, DType::f32, n, h, w, c};
  floats.data = arena_->alloc(floats.bytes());
  return floats;
}

Tape::Slot Tape::grad_slot(Var v) {
  Node& node = nodes_[static_cast<std::size_t>(v.id)];
  if (node.gradient == Gradient::none) return {};
  if (!node.grad) {
    node.grad = node.value;
    node.grad.type = node.grad_type;
    node.grad.data = arena_->alloc(node.grad.bytes());
    return {node.grad, Write::overwrite};
  }
  if (!shared(node.grad)) return {node.grad, Write::accumulate};
  const Tensor theirs = node.grad, own = replace_grad(v);
  kernels::mix(stream_, {1, {1}, {{theirs}}, own});
  return {own, Write::accumulate};
}

Tensor Tape::replace_grad(Var v) {
  Node& node = nodes_[static_cast<std::size_t>(v.id)];
  node.deferral.reset();
  if (!shared(node.grad)) return node.grad;
  Tensor own = node.grad;
  own.data = arena_->alloc(own.bytes());
  disown(node.grad);
  return node.grad = own;
}

void Tape::share_grad(Var to, Var from) {
  const Tensor& grad = nodes_[static_cast<std::size_t>(from.id)].grad;
  nodes_[static_cast<std::size_t>(to.id)].grad = grad;
  if (Shared* others = shared(grad)) {
    ++others->owners;
  } else {
    shared_.push_back({grad.data, 2});
  }
}

Tape::Shared* Tape::shared(const Tensor& grad) {
  const auto at = std::find_if(shared_.begin(), shared_.end(),
                               [&grad](const Shared& s) { return s.data == grad.data; });
  return at == shared_.end() ? nullptr : &*at;
}

/// Memory goes back to the arena with its last owner.
void Tape::disown(Tensor& grad) {
  if (!grad) return;
  if (Shared* others = shared(grad)) {
    if (--others->owners == 1) shared_.erase(shared_.begin() + (others - shared_.data()));
  } else {
    arena_->free(grad.data, grad.bytes());
  }
  grad.data = nullptr;
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
  disown(node.grad);
  if (node.deferral && node.deferral->spread) {
    arena_->free(node.deferral->spread.data, node.deferral->spread.bytes());
  }
  node.value.data = nullptr;
  node.deferral.reset();
}

void Tape::backward() {
  const Range pass(stream_, &Observer::pass, "backward");
  forward_ = false;
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

// Who owns the memory of a gradient: the value it belongs to, or several whose gradients are the
// same numbers (Tape::share_grad). Memory goes back to the arena with its last owner.
#pragma once

#include <vector>

#include "engine/arena.h"
#include "kernels/tensor.h"

namespace tunas::engine {

class GradientMemory {
 public:
  explicit GradientMemory(Arena& arena) : arena_(&arena) {}

  /// `shape` with memory of its own, uninitialised.
  Tensor alloc(Tensor shape) {
    shape.data = arena_->alloc(shape.bytes());
    return shape;
  }
  /// One more owner of a gradient's memory.
  void share(const Tensor& grad);
  /// Whether others own it, too: then nobody may write to it.
  bool shared(const Tensor& grad) const { return find(grad) < shared_.size(); }
  /// The end of one ownership; `grad` is empty afterwards.
  void release(Tensor& grad);
  /// Forgets all owners: the arena was reset.
  void reset() { shared_.clear(); }

 private:
  /// Of a gradient with more than one owner.
  struct Shared {
    const void* data;
    int owners;
  };
  std::size_t find(const Tensor& grad) const;  // shared_.size(): nowhere

  Arena* arena_;
  std::vector<Shared> shared_;
};

}  // namespace tunas::engine

#include "engine/gradient_memory.h"

namespace tunas::engine {

std::size_t GradientMemory::find(const Tensor& grad) const {
  std::size_t at = 0;
  while (at < shared_.size() && shared_[at].data != grad.data) ++at;
  return at;
}

void GradientMemory::share(const Tensor& grad) {
  const std::size_t at = find(grad);
  if (at == shared_.size()) shared_.push_back({grad.data, 1});
  ++shared_[at].owners;
}

void GradientMemory::release(Tensor& grad) {
  if (!grad) return;
  const std::size_t at = find(grad);
  if (at == shared_.size()) {
    arena_->free(grad.data, grad.bytes());
  } else if (--shared_[at].owners == 1) {
    shared_.erase(shared_.begin() + static_cast<std::ptrdiff_t>(at));
  }
  grad.data = nullptr;
}

}  // namespace tunas::engine

// Optimizer updates on the CPU, formulas in update.h. Bound by memory, so plain loops that the
// compiler vectorises; element by element, so any number of threads gives the same bits. RMSProp's
// chunks are fixed because its vectors and its last elements may differ in fused multiply-adds.
#include "kernels/update.h"

#include "kernels/parallel.h"
#include "kernels/update_loops.h"

namespace tunas::kernels {

Cost cost(const RmsProp& args) {
  const auto size = static_cast<double>(args.size);
  return {9 * size, 16 * size, 12 * size};
}

Cost cost(const Sgd& args) {
  const auto size = static_cast<double>(args.size);
  return {7 * size, 12 * size, 8 * size};
}

Cost cost(const Add& args) {
  const auto size = static_cast<double>(args.size);
  return {size, 8 * size, 4 * size};
}

namespace cpu {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 14;  // elements

}  // namespace

void rms_prop(CpuContext& context, const RmsProp& args) {
  const UpdateLoops& loops = update_loops();
  parallel_pieces(context, args.size, kChunk,
                  [&](std::size_t begin, std::size_t end) { loops.rms_prop(args, begin, end); });
}

void sgd(CpuContext& context, const Sgd& args) {
  const Sgd a = args;
  parallel_pieces(context, args.size, kChunk, [a](std::size_t begin, std::size_t end) {
#pragma GCC ivdep
    for (std::size_t i = begin; i < end; ++i) {
      const float mom = a.momentum * a.mom[i] + (a.scale * a.grad[i] + a.weight_decay * a.w[i]);
      a.mom[i] = mom;
      a.w[i] -= a.rate * mom;
    }
  });
}

void add(CpuContext& context, const Add& args) {
  const Add a = args;
  parallel_pieces(context, args.size, kChunk, [a](std::size_t begin, std::size_t end) {
#pragma GCC ivdep
    for (std::size_t i = begin; i < end; ++i) a.a[i] += a.b[i];
  });
}

}  // namespace cpu
}  // namespace tunas::kernels

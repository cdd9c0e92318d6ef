// Optimizer updates on the CPU, formulas in update.h. Bound by memory, so plain loops that the
// compiler vectorises; element by element, so any number of threads gives the same bits. RMSProp's
// chunks are fixed because its vectors and its last elements may differ in fused multiply-adds.
#include "kernels/update.h"

#include <atomic>
#include <cmath>

#include "kernels/parallel.h"
#include "kernels/update_loops.h"

namespace tunas::kernels {

Cost cost(const FiniteCheck& args) {
  const auto size = static_cast<double>(args.size);
  return {size, 4 * size, 0};
}

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

Cost cost(const Average& args) {
  const auto size = static_cast<double>(args.size);
  return {3 * size, 8 * size, 4 * size};
}

Cost cost(const ShardMean& args) {
  const auto size = static_cast<double>(args.size);
  return {size, 4 * size, 4 * size};
}

namespace cpu {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 14;  // elements

bool skipped(const Verdict* verdict) { return verdict && verdict->not_finite > 0; }

void raise(std::uint32_t& to, std::uint32_t value) {
  std::atomic_ref largest(to);
  std::uint32_t seen = largest;
  while (seen < value && !largest.compare_exchange_weak(seen, value)) {
  }
}

}  // namespace

void finite_check(CpuContext& context, const FiniteCheck& args) {
  const FiniteCheck a = args;
  parallel_pieces(context, args.size, kChunk, [a](std::size_t begin, std::size_t end) {
    std::uint32_t bad = 0;
    for (std::size_t i = begin; i < end; ++i) bad += !std::isfinite(a.grad[i]);
    if (bad == 0) return;
    std::atomic_ref(a.verdict->not_finite) += bad;
    std::size_t last = end - 1;
    while (std::isfinite(a.grad[last])) --last;
    raise(a.verdict->last, static_cast<std::uint32_t>(last));
  });
}

void rms_prop(CpuContext& context, const RmsProp& args) {
  if (skipped(args.verdict)) return;
  const UpdateLoops& loops = update_loops();
  parallel_pieces(context, args.size, kChunk,
                  [&](std::size_t begin, std::size_t end) { loops.rms_prop(args, begin, end); });
}

void sgd(CpuContext& context, const Sgd& args) {
  if (skipped(args.verdict)) return;
  const Sgd a = args;
  parallel_pieces(context, args.size, kChunk, [a](std::size_t begin, std::size_t end) {
#pragma GCC ivdep
    for (std::size_t i = begin; i < end; ++i) {
      const float g = a.scale * a.grad[i];
      a.mom[i] = a.momentum * a.mom[i] + (g + a.weight_decay * a.w[i]);
      a.w[i] -= a.rate * a.mom[i];
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

void average(CpuContext& context, const Average& args) {
  if (skipped(args.verdict)) return;
  const Average a = args;
  const float share = 1 - a.decay;
  parallel_pieces(context, args.size, kChunk, [a, share](std::size_t begin, std::size_t end) {
#pragma GCC ivdep
    for (std::size_t i = begin; i < end; ++i) a.mean[i] += share * (a.value[i] - a.mean[i]);
  });
}

void shard_mean(CpuContext& context, const ShardMean& args) {
  if (skipped(args.verdict)) return;
  const ShardMean a = args;
  const float shards = static_cast<float>(a.shards);
  parallel_pieces(context, args.size, kChunk, [a, shards](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) a.mean[i] = a.sum[i] / shards;
  });
}

}  // namespace cpu
}  // namespace tunas::kernels

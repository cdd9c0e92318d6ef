// Optimizer updates (update.h): one thread four parameters, the bf16 shadow written on the way.
#include "kernels/update.h"

#include <cfloat>

#include "kernels/pack.cuh"

namespace tunas::kernels::cuda {
namespace {

constexpr int kThreads = 256, kPack = 4;

/// Calls body<N>(first) with N = 4 for whole packs and N = 1 for the up to three at the end.
template <class Body>
__device__ void each_pack(std::size_t size, const Body& body) {
  const std::size_t pack = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::size_t whole = size / kPack;
  if (pack < whole) {
    body.template operator()<kPack>(pack * kPack);
  } else if (whole * kPack + (pack - whole) < size) {
    body.template operator()<1>(whole * kPack + (pack - whole));
  }
}

dim3 blocks(std::size_t size) {
  return dim3(ceil_div(static_cast<long>(size / kPack + size % kPack), kThreads));
}

/// Counts what is not, which happens rarely enough for an atomic.
__device__ inline bool is_finite(float g, std::uint32_t* not_finite) {
  if (fabsf(g) <= FLT_MAX) return true;
  if (not_finite) atomicAdd(not_finite, 1u);
  return false;
}

struct RmsPropBody {
  RmsProp a;
  template <int N>
  __device__ void operator()(std::size_t at) const {
    float g[N], w[N], ms[N], mom[N];
    load(a.grad + at, g);
    load(a.w + at, w);
    load(a.ms + at, ms);
    load(a.mom + at, mom);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float scaled = a.scale * g[i];
      if (!is_finite(scaled, a.not_finite)) continue;
      ms[i] = a.decay * ms[i] + (1 - a.decay) * scaled * scaled;
      mom[i] = a.momentum * mom[i] + a.rate * scaled / sqrtf(ms[i] + a.epsilon);
      w[i] -= mom[i];
    }
    store(a.ms + at, ms);
    store(a.mom + at, mom);
    store(a.w + at, w);
    if (a.shadow) store(static_cast<bf16*>(a.shadow) + at, w);
  }
};

struct SgdBody {
  Sgd a;
  template <int N>
  __device__ void operator()(std::size_t at) const {
    float g[N], w[N], mom[N];
    load(a.grad + at, g);
    load(a.w + at, w);
    load(a.mom + at, mom);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float scaled = a.scale * g[i];
      if (!is_finite(scaled, a.not_finite)) continue;
      mom[i] = a.momentum * mom[i] + (scaled + a.weight_decay * w[i]);
      w[i] -= a.rate * mom[i];
    }
    store(a.mom + at, mom);
    store(a.w + at, w);
    if (a.shadow) store(static_cast<bf16*>(a.shadow) + at, w);
  }
};

struct AddBody {
  Add args;
  template <int N>
  __device__ void operator()(std::size_t at) const {
    float a[N], b[N];
    load(args.a + at, a);
    load(args.b + at, b);
#pragma unroll
    for (int i = 0; i < N; ++i) a[i] += b[i];
    store(args.a + at, a);
  }
};

struct AverageBody {
  Average args;
  template <int N>
  __device__ void operator()(std::size_t at) const {
    float v[N], mean[N];
    load(args.value + at, v);
    load(args.mean + at, mean);
#pragma unroll
    for (int i = 0; i < N; ++i) mean[i] += (1 - args.decay) * (v[i] - mean[i]);
    store(args.mean + at, mean);
  }
};

struct ShardMeanBody {
  ShardMean args;
  template <int N>
  __device__ void operator()(std::size_t at) const {
    float v[N];
    load(args.sum + at, v);
#pragma unroll
    for (float& mean : v) mean /= static_cast<float>(args.shards);
    store(args.mean + at, v);
  }
};

template <class Body>
__global__ void __launch_bounds__(kThreads) update_kernel(Body body, std::size_t size) {
  each_pack(size, body);
}

}  // namespace

void rms_prop(CudaContext& context, const RmsProp& args) {
  if (args.size == 0) return;
  launch(context, "rms_prop", update_kernel<RmsPropBody>, {blocks(args.size), dim3(kThreads)},
         RmsPropBody{args}, args.size);
}

void sgd(CudaContext& context, const Sgd& args) {
  if (args.size == 0) return;
  launch(context, "sgd", update_kernel<SgdBody>, {blocks(args.size), dim3(kThreads)}, SgdBody{args},
         args.size);
}

void add(CudaContext& context, const Add& args) {
  if (args.size == 0) return;
  launch(context, "add", update_kernel<AddBody>, {blocks(args.size), dim3(kThreads)}, AddBody{args},
         args.size);
}

void average(CudaContext& context, const Average& args) {
  if (args.size == 0) return;
  launch(context, "average", update_kernel<AverageBody>, {blocks(args.size), dim3(kThreads)},
         AverageBody{args}, args.size);
}

void shard_mean(CudaContext& context, const ShardMean& args) {
  if (args.size == 0) return;
  launch(context, "shard mean", update_kernel<ShardMeanBody>, {blocks(args.size), dim3(kThreads)},
         ShardMeanBody{args}, args.size);
}

}  // namespace tunas::kernels::cuda

// Optimizer updates (update.h): one thread four parameters, the bf16 shadow written on the way.
#include "kernels/update.h"

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

/// What is not finite is rare enough for atomics, and integers come to the same in any order.
struct FiniteCheckBody {
  FiniteCheck a;
  template <int N>
  __device__ void operator()(std::size_t at) const {
    float g[N];
    load(a.grad + at, g);
    unsigned bad = 0, last = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (isfinite(g[i])) continue;
      ++bad;
      last = static_cast<unsigned>(at) + i;
    }
    if (bad == 0) return;
    atomicAdd(&a.verdict->not_finite, bad);
    atomicMax(&a.verdict->last, last);
  }
};

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
__global__ void __launch_bounds__(kThreads)
    update_kernel(Body body, std::size_t size, const Verdict* verdict) {
  if (verdict && verdict->not_finite > 0) return;
  each_pack(size, body);
}

template <class Body, class Args>
void launch_update(CudaContext& context, const char* name, const Args& args,
                   const Verdict* verdict) {
  if (args.size == 0) return;
  launch(context, name, update_kernel<Body>, {blocks(args.size), dim3(kThreads)}, Body{args},
         args.size, verdict);
}

}  // namespace

void finite_check(CudaContext& context, const FiniteCheck& args) {
  launch_update<FiniteCheckBody>(context, "finite check", args, nullptr);
}

void rms_prop(CudaContext& context, const RmsProp& args) {
  launch_update<RmsPropBody>(context, "rms_prop", args, args.verdict);
}

void sgd(CudaContext& context, const Sgd& args) {
  launch_update<SgdBody>(context, "sgd", args, args.verdict);
}

void add(CudaContext& context, const Add& args) {
  launch_update<AddBody>(context, "add", args, nullptr);
}

void average(CudaContext& context, const Average& args) {
  launch_update<AverageBody>(context, "average", args, args.verdict);
}

void shard_mean(CudaContext& context, const ShardMean& args) {
  launch_update<ShardMeanBody>(context, "shard mean", args, args.verdict);
}

}  // namespace tunas::kernels::cuda

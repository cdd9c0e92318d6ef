// Gate of squeeze-and-excite (gate.h): one thread eight channels. The gate and its gradient are
// float, as Source reads them; x and dx have the type of the network.
#include "kernels/gate.h"

#include "kernels/source.cuh"

namespace tunas::kernels::cuda {
namespace {

constexpr int kThreads = 128, kPack = 8;

template <class T>
__global__ void __launch_bounds__(kThreads) gate_kernel(GateForward a, long packs) {
  const long i = static_cast<long>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= packs) return;
  float v[kPack];
  load(static_cast<const T*>(a.x.data) + i * kPack, v);
  activate(a.kind, v);
#pragma unroll
  for (float& g : v) g = a.off + a.on * g;
  store(static_cast<float*>(a.gate.data) + i * kPack, v);
}

template <class T>
__global__ void __launch_bounds__(kThreads) gate_backward_kernel(GateBackward a, long packs) {
  const long i = static_cast<long>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= packs) return;
  float x[kPack], d[kPack];
  load(static_cast<const T*>(a.x.data) + i * kPack, x);
  load(static_cast<const float*>(a.dgate.data) + i * kPack, d);
  activate_backward(a.kind, x, d);
#pragma unroll
  for (float& g : d) g *= a.on;
  store(static_cast<T*>(a.dx.data) + i * kPack, d);
}

}  // namespace

void gate(CudaContext& context, const GateForward& args) {
  require(args.gate.type == DType::f32, "the gate of squeeze-and-excite must be an f32 tensor");
  with_type(args.x.type, [&](auto t) {
    const long packs = args.x.size() / kPack;
    launch(context, "gate", gate_kernel<decltype(t)>,
           {dim3(ceil_div(packs, kThreads)), dim3(kThreads)}, args, packs);
  });
}

void gate_backward(CudaContext& context, const GateBackward& args) {
  require(args.dgate.type == DType::f32, "the gradient of a gate must be an f32 tensor");
  with_type(args.x.type, [&](auto t) {
    const long packs = args.x.size() / kPack;
    launch(context, "gate backward", gate_backward_kernel<decltype(t)>,
           {dim3(ceil_div(packs, kThreads)), dim3(kThreads)}, args, packs);
  });
}

}  // namespace tunas::kernels::cuda

// Softmax cross-entropy (softmax_xent.h): one block an image, three sweeps over its logits, which
// stay in the first-level cache.
#include "kernels/softmax_xent.h"

#include "kernels/pack.cuh"

namespace tunas::kernels::cuda {
namespace {

constexpr int kThreads = 128;

/// Folds the threads' values in a fixed tree; everybody gets the result.
template <class T, class Fold>
__device__ T fold_block(T value, T* buffer, const Fold& fold) {
  __syncthreads();
  buffer[threadIdx.x] = value;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) {
      buffer[threadIdx.x] = fold(buffer[threadIdx.x], buffer[threadIdx.x + half]);
    }
  }
  __syncthreads();
  return buffer[0];
}

template <class T, class D>
__global__ void __launch_bounds__(kThreads) softmax_xent_kernel(SoftmaxXent a) {
  __shared__ float floats[kThreads];
  __shared__ int ints[kThreads];
  const int n = static_cast<int>(blockIdx.x), width = a.logits.c, classes = a.classes;
  const T* logits = static_cast<const T*>(a.logits.data) + static_cast<long>(n) * width;
  const int label = a.labels[n];
  float own;
  {
    float v[1];
    load(logits + label, v);
    own = v[0];
  }
  float top = -INFINITY, total = 0;
  int ahead = 0;
  for (int j = static_cast<int>(threadIdx.x); j < classes; j += kThreads) {
    float v[1];
    load(logits + j, v);
    top = fmaxf(top, v[0]);
    total += v[0];
    ahead += v[0] > own || (v[0] == own && j < label);
  }
  const auto add = [](auto x, auto y) { return x + y; };
  top = fold_block(top, floats, [](float x, float y) { return fmaxf(x, y); });
  total = fold_block(total, floats, add);
  ahead = fold_block(ahead, ints, add);
  float sum = 0;
  for (int j = static_cast<int>(threadIdx.x); j < classes; j += kThreads) {
    float v[1];
    load(logits + j, v);
    sum += expf(v[0] - top);
  }
  sum = fold_block(sum, floats, add);
  // Relative to the largest, where a sure network's loss is small. Without smoothing, a logit of
  // minus infinity elsewhere must not turn 0*inf into NaN.
  const float mean = total / static_cast<float>(classes) - top;
  const float others = a.smoothing > 0 ? a.smoothing * mean : 0.0f;
  const float loss = logf(sum) - (1 - a.smoothing) * (own - top) - others;
  if (threadIdx.x == 0) {
    a.loss[n] = loss;
    a.rank[n] = isnan(sum) ? classes : ahead;
  }
  if (!a.dlogits.data) return;
  D* out = static_cast<D*>(a.dlogits.data) + static_cast<long>(n) * width;
  const float per_image = 1.0f / static_cast<float>(a.logits.n);
  for (int j = static_cast<int>(threadIdx.x); j < width; j += kThreads) {
    float v[1] = {0};
    if (j < classes) {
      load(logits + j, v);
      const float target =
          a.smoothing / static_cast<float>(classes) + (j == label ? 1 - a.smoothing : 0.0f);
      v[0] = isfinite(loss) ? (expf(v[0] - top) / sum - target) * per_image : NAN;
    }
    store(out + j, v);
  }
}

}  // namespace

void softmax_xent(CudaContext& context, const SoftmaxXent& args) {
  const Tensor &logits = args.logits, &dlogits = args.dlogits;
  require(dlogits.type == logits.type || dlogits.data != logits.data,
          "softmax_xent: dlogits may lie over logits only where both are of one type");
  with_type(logits.type, [&](auto t) {
    with_type(dlogits.type, [&](auto d) {
      launch(context, "softmax_xent", softmax_xent_kernel<decltype(t), decltype(d)>,
             {dim3(logits.n), dim3(kThreads)}, args);
    });
  });
}

}  // namespace tunas::kernels::cuda

// Mix (mix.h): a weighted sum of up to four sources, and the gradient of one term.
#include "kernels/mix.h"

#include "kernels/rows.cuh"

namespace tunas::kernels::cuda {
namespace {

template <class T, int kTerms>
__global__ void __launch_bounds__(kRowThreads) mix_kernel(MixForward a, RowCut rows) {
  constexpr int kDeep = kTerms <= 2 ? 4 : 2;
  const RowSpan span(rows);
  const int c = rows.c, channel = span.channel < c ? span.channel : 0, slots = rows.cut.slots;
  float scale[kTerms][kRowPack], shift[kTerms][kRowPack];
#pragma unroll
  for (int t = 0; t < kTerms; ++t) {
    load_channels(a.x[t].scale, channel, 1.0f, scale[t]);
    load_channels(a.x[t].shift, channel, 0.0f, shift[t]);
  }
  for (long row = span.begin + span.slot; row < span.end; row += kDeep * slots) {
    Raw<T, kRowPack> raw[kDeep][kTerms];
#pragma unroll
    for (int k = 0; k < kDeep; ++k) {
#pragma unroll
      for (int t = 0; t < kTerms; ++t) {
        if (row + k * slots >= span.end) continue;
        const T* y = static_cast<const T*>(a.x[t].y.data);
        raw[k][t] = load_raw<T, kRowPack>(y + (row + k * slots) * c + channel);
      }
    }
#pragma unroll
    for (int k = 0; k < kDeep; ++k) {
      if (row + k * slots >= span.end) break;
      float out[kRowPack] = {};
#pragma unroll
      for (int t = 0; t < kTerms; ++t) {
        float v[kRowPack];
        unpack<T>(raw[k][t], v);
#pragma unroll
        for (int i = 0; i < kRowPack; ++i) v[i] = scale[t][i] * v[i] + shift[t][i];
        activate(a.x[t].act, v);
#pragma unroll
        for (int i = 0; i < kRowPack; ++i) out[i] += a.weight[t] * v[i];
      }
      store(static_cast<T*>(a.out.data) + (row + k * slots) * c + channel, out);
    }
  }
}

struct MixBody {
  float weight;
  __device__ void start(int, int, int) {}
  __device__ void value(long, float (&d)[kRowPack]) const {
#pragma unroll
    for (float& v : d) v *= weight;
  }
};

}  // namespace

void mix(CudaContext& context, const MixForward& args) {
  require(args.terms >= 1 && args.terms <= MixForward::kMaxTerms, "mix of ", args.terms,
          " terms; it takes 1 to ", MixForward::kMaxTerms);
  const RowCut rows = cut_rows(args.out.rows(), args.out.c);
  with_type(args.out.type, [&](auto t) {
    using T = decltype(t);
    void (*const kernels[])(MixForward, RowCut) = {mix_kernel<T, 1>, mix_kernel<T, 2>,
                                                   mix_kernel<T, 3>, mix_kernel<T, 4>};
    launch(context, "mix", kernels[args.terms - 1], rows.shape(), args, rows);
  });
}

void mix_backward(CudaContext& context, const MixBackward& args) {
  with_type(args.dout.type, [&](auto t) {
    write_grad(context, "mix backward", MixBody{args.weight},
               static_cast<const decltype(t)*>(args.dout.data), args.x, args.dx,
               cut_rows(args.dout.rows(), args.dout.c));
  });
}

}  // namespace tunas::kernels::cuda

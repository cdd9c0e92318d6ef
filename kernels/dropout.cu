// Dropout (dropout.h): the mask is drawn again in backward, two philox calls a pack.
#include "kernels/dropout.h"

#include "kernels/rows.cuh"

namespace tunas::kernels::cuda {
namespace {

struct DropoutBody {
  float rate, keep;  // keep = 1/(1-rate)
  const PhiloxKey* at_key;
  PhiloxKey key;

  DropoutBody(float r, const PhiloxKey* k) : rate(r), keep(1.0f / (1.0f - r)), at_key(k) {}
  __device__ void start(int, int, int) { key = *at_key; }
  __device__ void value(long at, float (&d)[kRowPack]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Random4 random = philox(key, static_cast<std::uint64_t>(at) / 4 + half);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        d[4 * half + i] = uniform_float(random.v[i]) >= rate ? d[4 * half + i] * keep : 0.0f;
      }
    }
  }
};

template <class T>
__global__ void __launch_bounds__(kRowThreads)
    dropout_kernel(DropoutBody body, Source x, T* out, RowCut rows) {
  const RowSpan span(rows);
  const Reader<kRowPack> reader(x, span.channel < rows.c ? span.channel : 0);
  body.start(0, 0, 0);
  for (long row = span.begin + span.slot; row < span.end; row += rows.cut.slots) {
    const long at = row * rows.c + span.channel;
    float v[kRowPack];
    load(static_cast<const T*>(x.y.data) + at, v);
    reader.value(v);
    body.value(at, v);
    store(out + at, v);
  }
}

}  // namespace

void dropout(CudaContext& context, const DropoutForward& args) {
  const RowCut rows = cut_rows(args.out.rows(), args.out.c);
  with_type(args.out.type, [&](auto t) {
    using T = decltype(t);
    launch(context, "dropout", dropout_kernel<T>, rows.shape(), DropoutBody(args.rate, args.key),
           args.x, static_cast<T*>(args.out.data), rows);
  });
}

void dropout_backward(CudaContext& context, const DropoutBackward& args) {
  with_type(args.dout.type, [&](auto t) {
    write_grad(context, "dropout backward", DropoutBody(args.rate, args.key),
               static_cast<const decltype(t)*>(args.dout.data), args.x, args.dx,
               cut_rows(args.dout.rows(), args.dout.c));
  });
}

}  // namespace tunas::kernels::cuda

// Mix (mix.h): a weighted sum of up to four sources, the gradient of one term, the sums of all.
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

/// One term of MixSums as a thread sees it.
template <class T>
struct TermSums {
  const T* y;
  float weight;
  Reader<kRowPack> reader;
  GradWriter<T, kRowPack> writer;

  __device__ TermSums(const MixSums::Term& term, int channel)
      : y(static_cast<const T*>(term.x.y.data) + channel),
        weight(term.weight),
        reader(term.x, channel),
        writer(term.grad(), channel) {}
  /// dout and y of one pixel.
  __device__ void put(const Raw<T, kRowPack>& raw_d, const Raw<T, kRowPack>& raw_y) {
    float d[kRowPack], v[kRowPack];
    unpack<T>(raw_d, d);
    unpack<T>(raw_y, v);
#pragma unroll
    for (float& da : d) da *= weight;
    writer.sum_da(reader, v, d);
  }
};

/// kTerm: 0, 1, ... of the terms there are. Leaves partial [chunks][terms][2][c].
template <class T, int... kTerm>
__global__ void __launch_bounds__(kRowThreads)
    mix_sums_kernel(MixSums a, RowCut rows, float* partial) {
  constexpr int kTerms = sizeof...(kTerm);
  constexpr int kDeep = kTerms <= 2 ? 4 : kTerms * sizeof(T) < 16 ? 2 : 1;  // four floats spill
  __shared__ float buffer[kBatch * kRowThreads];
  const RowSpan span(rows);
  const int c = rows.c, channel = span.channel < c ? span.channel : 0, slots = rows.cut.slots;
  TermSums<T> terms[] = {TermSums<T>(a.term[kTerm], channel)...};
  const T* dout = static_cast<const T*>(a.dout.data) + channel;
  for (long row = span.begin + span.slot; row < span.end; row += kDeep * slots) {
    Raw<T, kRowPack> raw_d[kDeep], raw_y[kDeep][kTerms];
#pragma unroll
    for (int k = 0; k < kDeep; ++k) {
      const long at = (row + k * slots) * c;
      if (row + k * slots >= span.end) continue;
      raw_d[k] = load_raw<T, kRowPack>(dout + at);
#pragma unroll
      for (int t = 0; t < kTerms; ++t) raw_y[k][t] = load_raw<T, kRowPack>(terms[t].y + at);
    }
#pragma unroll
    for (int k = 0; k < kDeep; ++k) {
      if (row + k * slots >= span.end) break;
#pragma unroll
      for (int t = 0; t < kTerms; ++t) terms[t].put(raw_d[k], raw_y[k][t]);
    }
  }
  float* out = partial + static_cast<long>(blockIdx.y) * kTerms * 2 * c;
#pragma unroll
  for (int t = 0; t < kTerms; ++t, out += 2 * c) {
    leave_sums(terms[t].writer.s1, buffer, rows, out);
    leave_sums(terms[t].writer.s2, buffer, rows, out + c);
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

void mix_sums(CudaContext& context, const MixSums& args) {
  require(args.terms >= 1 && args.terms <= MixForward::kMaxTerms, "sums of a mix of ", args.terms,
          " terms; it takes 1 to ", MixForward::kMaxTerms);
  for (int t = 0; t < args.terms; ++t) {
    const MixSums::Term& term = args.term[t];
    require(term.x.y.type == args.dout.type && !term.x.gate && term.x.scale && term.mean,
            "mix_sums: a term must be normalised, ungated and of the type of dout");
  }
  const int c = args.dout.c;
  const RowCut rows = cut_rows(args.dout.rows(), c);
  const long stride = 2L * args.terms * c;
  float* partial = scratch(context, static_cast<std::size_t>(rows.chunks() * stride));
  with_type(args.dout.type, [&](auto t) {
    using T = decltype(t);
    void (*const kernels[])(MixSums, RowCut, float*) = {
        mix_sums_kernel<T, 0>, mix_sums_kernel<T, 0, 1>, mix_sums_kernel<T, 0, 1, 2>,
        mix_sums_kernel<T, 0, 1, 2, 3>};
    launch(context, "mix sums", kernels[args.terms - 1], rows.shape(), args, rows, partial);
  });
  OrderedSums sums;
  for (int t = 0; t < args.terms; ++t) {
    add_source_sums(sums, args.term[t].grad(), partial + 2L * t * c, rows.chunks(), stride, c);
  }
  add_in_order(context, sums);
}

}  // namespace tunas::kernels::cuda

// Depthwise backward (depthwise.h), dgrad and wgrad in one pass over dz, y and x.
//
// A strip consists of cells: cell (P, Q) is the stride x stride block of input pixels with
// h + top = stride*P + a, w + left = stride*Q + b. With i = stride*m + a and j = stride*l + b
//
//   du[h,w] = sum_{m,l} w[i,j]*dy[P-m, Q-l];     dw[i,j] += u[h,w]*dy[P-m, Q-l]
//
// so the last M = ceil(k/stride) rows of dy, kept in registers, serve both products of every pixel
// of a cell row, and each pixel of x is read and each of dx written by one thread only. dy is made
// of dz and y on load. Each block leaves [k*k + 2][c] sums (dw, S1, S2), added by a second kernel.
#include "kernels/depthwise_strips.cuh"
#include "kernels/library.h"

namespace tunas::kernels::cuda {
namespace {

template <class T, int K, int S>
struct BackwardStrip {
  static constexpr int kChannels = K == 3 ? 2 : 1;
  static constexpr int kColumns = S == 2 || K == 7 ? 4 : 7;  // of cells
  static constexpr int kLive = (K + S - 1) / S;              // M
  static constexpr int kDy = kColumns + kLive - 1;           // columns of dy
  static constexpr int kPixels = kColumns * S;               // columns of x
  static constexpr unsigned kAllDy = (1u << kDy) - 1, kAllX = (1u << kPixels) - 1;
  using Word = Raw<T, kChannels>;

  /// One cell row as loaded: a row of dy's makings and S rows of x.
  struct Rows {
    Word dz[kDy], y[kDy], x[S][kPixels];
  };

  const DepthwiseBackward& a;
  int channel;
  Reader<kChannels> reader;
  IncomingReader<kChannels> incoming;
  GradWriter<T, kChannels> writer;
  float w[K * K][kChannels], dw[K * K * kChannels];
  float dy[kLive][kDy * kChannels];
  unsigned dy_columns, x_columns;
  int dy_left, x_left;

  __device__ BackwardStrip(const DepthwiseBackward& args, int c0)
      : a(args), channel(c0), reader(args.x, c0), incoming(args.dy, c0), writer(args.dx, c0) {
#pragma unroll
    for (int i = 0; i < K * K; ++i) {
      load(static_cast<const T*>(a.w.data) + static_cast<long>(i) * a.w.in.max + channel, w[i]);
#pragma unroll
      for (int ch = 0; ch < kChannels; ++ch) dw[i * kChannels + ch] = 0;
    }
  }

  __device__ static void fetch(const T* from, int c, unsigned columns, unsigned all, Word* raw,
                               int count) {
    if (columns == all) {
#pragma unroll
      for (int x = 0; x < count; ++x, from += c) raw[x] = load_raw<T, kChannels>(from);
    } else {
#pragma unroll
      for (int x = 0; x < count; ++x, from += c) {
        raw[x] = Word{};
        if (columns >> x & 1) raw[x] = load_raw<T, kChannels>(from);
      }
    }
  }

  __device__ void fetch_dy(int n, int p, Rows& rows) const {
    const Tensor& dz = a.dy.dz;
    const unsigned columns = p >= 0 && p < dz.h ? dy_columns : 0u;
    const long at = ((static_cast<long>(n) * dz.h + p) * dz.w + dy_left) * dz.c + channel;
    fetch(static_cast<const T*>(dz.data) + at, dz.c, columns, kAllDy, rows.dz, kDy);
    fetch(static_cast<const T*>(a.dy.y.data) + at, dz.c, a.dy.ca ? columns : 0u, kAllDy, rows.y,
          kDy);
  }

  __device__ void fetch_x(int n, int p, Rows& rows) const {
    const Tensor& t = a.x.y;
#pragma unroll
    for (int s = 0; s < S; ++s) {
      const int h = p * S + s - a.top;
      const T* from = static_cast<const T*>(t.data) +
                      ((static_cast<long>(n) * t.h + h) * t.w + x_left) * t.c + channel;
      fetch(from, t.c, h >= 0 && h < t.h ? x_columns : 0u, kAllX, rows.x[s], kPixels);
    }
  }

  /// Shifts the window up and appends dy row p.
  __device__ void push(const Rows& rows, int p) {
#pragma unroll
    for (int m = 0; m + 1 < kLive; ++m) {
#pragma unroll
      for (int e = 0; e < kDy * kChannels; ++e) dy[m][e] = dy[m + 1][e];
    }
    float y[kDy * kChannels];
    auto& last = dy[kLive - 1];
    unpack_row<kChannels>(rows.dz, last);
    unpack_row<kChannels>(rows.y, y);
#pragma unroll
    for (int e = 0; e < kDy * kChannels; ++e) {
      last[e] = incoming.value(e % kChannels, last[e], y[e]);
    }
    clear_outside<kChannels>(p >= 0 && p < a.dy.dz.h ? dy_columns : 0u, last);
  }

  /// Both products for sub-row s of the newest cell row.
  __device__ void multiply(int s, const float (&u)[kPixels * kChannels],
                           float (&du)[kPixels * kChannels]) {
#pragma unroll
    for (int i = 0; i < K; ++i) {
      if (i % S != s) continue;
#pragma unroll
      for (int j = 0; j < K; ++j) {
#pragma unroll
        for (int e = 0; e < kColumns * kChannels; ++e) {
          const int q = e / kChannels, ch = e % kChannels;
          const int at = (q * S + j % S) * kChannels + ch;
          const float d = dy[kLive - 1 - i / S][(q + kLive - 1 - j / S) * kChannels + ch];
          du[at] += w[i * K + j][ch] * d;
          dw[(i * K + j) * kChannels + ch] += u[at] * d;
        }
      }
    }
  }

  __device__ void cell_row(int n, int p, const Rows& rows) {
    const Tensor& t = a.x.y;
#pragma unroll
    for (int s = 0; s < S; ++s) {
      const int h = p * S + s - a.top;
      if (h < 0 || h >= t.h) continue;
      float v[kPixels * kChannels], du[kPixels * kChannels] = {};
      reader.row(rows.x[s], x_columns, v);
      multiply(s, v, du);
      if (!writer.dz) continue;
      const long at = ((static_cast<long>(n) * t.h + h) * t.w + x_left) * t.c + channel;
      reader.normalise_row(rows.x[s], v);
      activate_backward(reader.act, v, du);
      unpack_row<kChannels>(rows.x[s], v);
#pragma unroll
      for (int x = 0; x < kPixels; ++x) {
        if (x_columns >> x & 1) writer.put_dz(at + x * t.c, v + x * kChannels, du + x * kChannels);
      }
    }
  }

  __device__ void walk(int n, int begin, int end, int strip) {
    begin += a.top / S;  // cell rows and columns start with the first that holds a pixel
    end += a.top / S;
    const int first = a.left / S + strip * kColumns;
    dy_left = first - (kLive - 1);
    x_left = first * S - a.left;
    dy_columns = x_columns = 0;
#pragma unroll
    for (int x = 0; x < kDy; ++x) {
      dy_columns |= static_cast<unsigned>(dy_left + x >= 0 && dy_left + x < a.dy.dz.w) << x;
    }
#pragma unroll
    for (int x = 0; x < kPixels; ++x) {
      x_columns |= static_cast<unsigned>(x_left + x >= 0 && x_left + x < a.x.y.w) << x;
    }
    Rows rows;
    for (int p = begin - (kLive - 1); p < begin; ++p) {
      fetch_dy(n, p, rows);
      push(rows, p);
    }
    fetch_dy(n, begin, rows);
    fetch_x(n, begin, rows);
    for (int p = begin; p < end; ++p) {
      Rows next;
      fetch_dy(n, p + 1 < end ? p + 1 : -1, next);
      fetch_x(n, p + 1 < end ? p + 1 : -S, next);
      push(rows, p);
      cell_row(n, p, rows);
      rows = next;
    }
  }
};

template <class T, int K, int S>
__global__ void __launch_bounds__(kStripThreads, K == 5 && S == 2 ? 3 : 2)
    depthwise_backward_kernel(DepthwiseBackward a, Strips strips, float* partial) {
  using Strip = BackwardStrip<T, K, S>;
  constexpr int kChannels = Strip::kChannels;
  __shared__ float buffer[kBatch * kStripThreads];
  const int c = a.x.y.c;
  const StripPlace place(strips, kChannels, c);
  Strip strip(a, place.channel);
  each_strip(strips, place,
             [&](int n, int begin, int end, int column) { strip.walk(n, begin, end, column); });
  if (!partial) return;
  float* out = partial + static_cast<long>(blockIdx.y) * (K * K + 2) * c;
  const int lanes = strips.cut.lanes, first = static_cast<int>(blockIdx.x) * lanes * kChannels;
  const auto emit = [&](int row) {
    return [=](int v, int lane, float sum) {
      const int at = first + lane * kChannels + v % kChannels;
      if (at < c) out[(row + v / kChannels) * c + at] = sum;
    };
  };
  sum_slots(strip.dw, buffer, lanes, strips.cut.slots, emit(0));
  sum_slots(strip.writer.s1, buffer, lanes, strips.cut.slots, emit(K * K));
  sum_slots(strip.writer.s2, buffer, lanes, strips.cut.slots, emit(K * K + 1));
}

}  // namespace

void depthwise_backward(CudaContext& context, const DepthwiseBackward& args) {
  require(!args.x.gate, "depthwise on CUDA takes no gated source; write it out with mix first");
  require(args.w.type == args.x.y.type, "depthwise on CUDA takes weights of the type of x");
  if (library::depthwise_backward(context, args)) return;
  const Tensor& x = args.x.y;
  with_type(x.type, [&](auto t) {
    with_window(args.w.k, args.stride, [&](auto k, auto s) {
      using T = decltype(t);
      using Strip = BackwardStrip<T, k(), s()>;
      constexpr int kTaps = k() * k();
      const auto cells = [&](int size, int before) {
        return (size - 1 + before) / s() - before / s() + 1;
      };
      const Strips strips = cut_strips(x.n, cells(x.h, args.top), cells(x.w, args.left), x.c,
                                       Strip::kChannels, Strip::kColumns);
      const long stride = static_cast<long>(kTaps + 2) * x.c;
      const bool sums_wanted = args.dw || (args.dx.dz && args.dx.mean);
      float* partial = sums_wanted ? scratch(context, strips.chunks * stride) : nullptr;
      launch(context, "depthwise backward", depthwise_backward_kernel<T, k(), s()>, strips.shape(),
             args, strips, partial);
      OrderedSums sums;
      if (args.dw) {
        OrderedSum dw{partial, strips.chunks, stride, kTaps, x.c, args.dw.in.max, args.dw.f32()};
        if (args.decay != 0) {
          dw.w = args.w.data;
          dw.w_type = args.w.type;
          dw.decay = args.decay;
        }
        sums.add(dw);
      }
      if (args.dx.dz) {
        add_source_sums(sums, args.dx, partial + kTaps * x.c, strips.chunks, stride, x.c);
      }
      if (sums.count) add_in_order(context, sums);
    });
  });
}

}  // namespace tunas::kernels::cuda

// Rows of the depthwise convolution; what each computes is in depthwise_loops.h.
//
// The two convolution loops hold a tile of T output (input) columns of one block in registers and
// walk down the filter rows. In backward each vector of dy that is loaded serves both gradients:
// du[t] += w[j]*dy and dw[j] += u[t]*dy, at most 2*T*k multiply-adds for T + k - 1 loads.
#include "kernels/depthwise_loops.h"

#include "kernels/simd.h"

namespace tunas::kernels::cpu::TUNAS_ISA {
namespace {

// 32 vector registers hold two tiles of 7 and two rows of a 7 x 7 filter; image sizes are often
// multiples of 7.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTile = 7;
#else
constexpr int kTile = 3;
#endif

template <int T>
struct Tile {
  static constexpr int value = T;
};

/// Cuts w columns into tiles: f(first column, Tile<T>) with T = Wide, then 4, then 1.
template <int Wide, class F>
inline void for_tiles(int w, F&& f) {
  int q = 0;
  for (; q + Wide <= w; q += Wide) f(q, Tile<Wide>{});
  if constexpr (Wide > 4) {
    for (; q + 4 <= w; q += 4) f(q, Tile<4>{});
  }
  if constexpr (Wide > 1) {
    for (; q < w; ++q) f(q, Tile<1>{});
  }
}

/// Holds v in a register: without it the compiler loads it again for each product.
inline void keep([[maybe_unused]] Vec& v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
}

/// How a block's vectors lie in a tensor: whole, half (the last 8 channels of 16 lanes), or whole
/// cache lines that are written past the caches.
enum class Span { whole, half, streamed };

inline Span span(const RowShape& shape, int i) {
  return i + kLanes > shape.c ? Span::half : Span::whole;
}

/// T pixels of one block.
template <int T>
[[gnu::always_inline]] inline void load_tile(const float* p, long stride,
                                             [[maybe_unused]] Span span, Vec (&v)[T]) {
#if defined(__AVX512F__)
  if (span == Span::half) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) v[t] = load(p + t * stride, Half{});
    return;
  }
#endif
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) v[t] = load(p + t * stride);
}

template <int T>
[[gnu::always_inline]] inline void store_tile(float* p, long stride, [[maybe_unused]] Span span,
                                              const Vec (&v)[T]) {
#if defined(__AVX512F__)
  if (span == Span::half) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) store(p + t * stride, v[t], Half{});
    return;
  }
  if (span == Span::streamed) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      asm volatile("vmovntps %1, %0" : "=m"(*reinterpret_cast<Vec*>(p + t * stride)) : "v"(v[t]));
    }
    return;
  }
#endif
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) store(p + t * stride, v[t]);
}

/// The span of stores to `out`: streamed where that is wanted and every vector is a cache line.
inline Span out_span(Span span, bool streamed, const float* out, const RowShape& shape) {
  const bool lines =
      kLanes == 16 && shape.stride % 16 == 0 && reinterpret_cast<unsigned long>(out) % 64 == 0;
  return streamed && lines && span == Span::whole ? Span::streamed : span;
}

/// Walks through the rows of `ahead` in the order of memory, into L2: L1 holds the rows in use.
class Fetch {
 public:
  Fetch(const RowsAhead& ahead, const RowShape& shape)
      : ahead_(ahead), c_(shape.c), skip_(shape.stride - shape.c) {}

  template <int T>
  [[gnu::always_inline]] void next() {
    long at[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      at[t] = at_ + t * kLanes + (channel_ + t * kLanes >= c_ ? skip_ : 0);
    }
#pragma GCC unroll 1
    for (int a = 0; a < ahead_.count; ++a) {
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) __builtin_prefetch(ahead_.at[a] + at[t], 0, 2);
    }
    at_ += T * kLanes;
    channel_ += T * kLanes;
    if (channel_ >= c_) {
      channel_ -= c_;
      at_ += skip_;
    }
  }

 private:
  const RowsAhead& ahead_;
  int c_;
  long skip_;
  long at_ = 0;
  int channel_ = 0;
};

template <Act A>
void source_row(const SourceRow& row) {
  Fetch fetch(row.ahead, row.shape);
  float* out = row.out;
  for_channels(row.shape.c, [&](int i, auto part) {
    const Vec scale = load(row.scale + i, part), shift = load(row.shift + i, part);
    const float* y = row.y + i;
    for (int q = 0; q < row.shape.w; ++q, y += row.shape.stride) {
      store(out + q * kLanes, activate<A>(scale * load(y, part) + shift));
      fetch.next<1>();
    }
    out += row.block;
  });
}

void source(const SourceRow& row) {
  with_act(row.act, [&](auto act) { source_row<decltype(act)::value>(row); });
}

template <bool Affine>
void incoming_row(const IncomingRow& row) {
  float* out = row.out;
  for_channels(row.shape.c, [&](int i, auto part) {
    const Vec ca = Affine ? load(row.ca + i, part) : Vec{};
    const Vec cb = Affine ? load(row.cb + i, part) : Vec{};
    const Vec cc = Affine ? load(row.cc + i, part) : Vec{};
    long at = i;
    for (int q = 0; q < row.shape.w; ++q, at += row.shape.stride) {
      const Vec dz = load(row.dz + at, part);
      store(out + q * kLanes, Affine ? ca * dz + (cb * load(row.y + at, part) + cc) : dz);
    }
    out += row.block;
  });
}

template <Act A>
void deferred_row(const IncomingRow& row) {
  float* out = row.out;
  for_channels(row.shape.c, [&](int i, auto part) {
    const Vec ca = load(row.ca + i, part), cb = load(row.cb + i, part), cc = load(row.cc + i, part);
    const Vec scale = load(row.scale + i, part), shift = load(row.shift + i, part);
    const Vec spread = row.spread ? load(row.spread + i, part) : Vec{};
    long at = i;
    for (int q = 0; q < row.shape.w; ++q, at += row.shape.stride) {
      const Vec y = load(row.y + at, part);
      const Vec da = row.weight * load(row.dz + at, part) + spread;
      store(out + q * kLanes, ca * (da * derivative<A>(scale * y + shift)) + (cb * y + cc));
    }
    out += row.block;
  });
}

void incoming(const IncomingRow& row) {
  if (row.scale) {
    return with_act(row.act, [&](auto act) { deferred_row<decltype(act)::value>(row); });
  }
  row.ca ? incoming_row<true>(row) : incoming_row<false>(row);
}

template <int K, int S, int T>
[[gnu::always_inline]] inline void forward_tile(const ForwardRow& row, long column,
                                                const float* weights, Vec (&acc)[T]) {
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) acc[t] = Vec{};
#pragma GCC unroll 1
  for (int r = 0; r < row.rows; ++r) {
    const float* u = row.u[r] + column;
    Vec w[K];
#pragma GCC unroll 8
    for (int j = 0; j < K; ++j) {
      w[j] = load(weights + ((row.first + r) * K + j) * kLanes);
      keep(w[j]);
    }
#pragma GCC unroll 32
    for (int d = 0; d < (T - 1) * S + K; ++d) {
      Vec v = load(u + d * kLanes);
      keep(v);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const int j = d - t * S;
        if (j >= 0 && j < K) acc[t] += w[j] * v;
      }
    }
  }
}

/// Moments of a row around a pivot p: with d = y - p, M2 = sum d^2 - (sum d)^2/w loses nothing when
/// p is near the mean, here the mean of the rows before, for the first row its first value.
template <int K, int S>
void forward_row(const ForwardRow& row) {
  const long stride = row.shape.stride;
  const float w = static_cast<float>(row.shape.w);
  const float share = w / (row.count + w);
  long block = 0;
  const float* weights = row.weights;
  Fetch fetch(row.ahead, row.shape);
  for (int i = 0; i < row.shape.c; i += kLanes) {
    const Span out = out_span(span(row.shape, i), row.streamed, row.y, row.shape);
    Vec pivot = load(row.mean + i), sum = {}, squares = {};
    for_tiles<kTile>(row.shape.w, [&](int q, auto tile) {
      constexpr int T = decltype(tile)::value;
      fetch.next<T>();
      Vec acc[T];
      forward_tile<K, S, T>(row, block + static_cast<long>(q) * S * kLanes, weights, acc);
      store_tile(row.y + q * stride + i, stride, out, acc);
      if (q == 0 && row.count == 0) pivot = acc[0];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Vec d = acc[t] - pivot;
        sum += d;
        squares += d * d;
      }
    });
    const Vec delta = sum * (1.0f / w);
    const Vec m2 = load(row.m2 + i) + (squares - sum * delta);
    store(row.mean + i, pivot + delta * share);
    store(row.m2 + i, m2 + delta * delta * (row.count * share));
    block += row.block;
    weights += K * K * kLanes;
  }
}

/// du of T columns, and dw. Padded column x = P + t (in units of the first tap's window) meets
/// output d through filter column j where x = d*S + j; P is the phase of the first column.
template <int K, int S, int P, int T>
[[gnu::always_inline]] inline void backward_tile(const BackwardRow& row, long column,
                                                 const float* weights, float* grads,
                                                 const Vec (&u)[T], Vec (&du)[T]) {
  constexpr int kFirst = -((K - 1 - P) / S);
  constexpr int kLast = (P + T - 1) / S;
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) du[t] = Vec{};
#pragma GCC unroll 1
  for (int r = 0; r < row.rows; ++r) {
    const int at = (row.first + r * S) * K * kLanes;
    Vec w[K], dw[K];
#pragma GCC unroll 8
    for (int j = 0; j < K; ++j) {
      w[j] = load(weights + at + j * kLanes);
      dw[j] = load(grads + at + j * kLanes);
      keep(w[j]);
    }
    const float* dy = row.dy[r] + column;
#pragma GCC unroll 32
    for (int d = kFirst; d <= kLast; ++d) {
      Vec v = load(dy + d * kLanes);
      keep(v);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const int j = P + t - d * S;
        if (j >= 0 && j < K) {
          du[t] += w[j] * v;
          dw[j] += u[t] * v;
        }
      }
    }
#pragma GCC unroll 8
    for (int j = 0; j < K; ++j) store(grads + at + j * kLanes, dw[j]);
  }
}

template <int K, int S, Act A>
void backward_row(const BackwardRow& row) {
  // Activations that no network has before a depthwise convolution are not worth much code.
  constexpr bool kRare = A == Act::sigmoid || A == Act::hard_sigmoid;
  constexpr int kWide = kRare ? 1 : kTile;
  const long stride = row.shape.stride;
  const float* weights = row.weights;
  float* grads = row.dw;
  long block = 0;
  Fetch fetch(row.ahead, row.shape);
  for (int i = 0; i < row.shape.c; i += kLanes) {
    const Span in = span(row.shape, i), out = out_span(in, row.streamed, row.dz, row.shape);
    Vec scale[1], shift[1], mean[1];
    load_tile(row.scale + i, 0, in, scale);
    load_tile(row.shift + i, 0, in, shift);
    load_tile(row.mean + i, 0, in, mean);
    Vec sum = {}, centred = {};
    for_tiles<kWide>(row.shape.w, [&](int q, auto tile) {
      constexpr int T = decltype(tile)::value;
      fetch.next<T>();
      const float* x = row.x + q * row.x_stride + i;
      Vec u[T], du[T];
      load_tile(x, row.x_stride, in, u);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) u[t] = activate<A>(scale[0] * u[t] + shift[0]);
      const long column = block + static_cast<long>((q + row.left) / S) * kLanes;
      if (S == 1 || (q + row.left) % 2 == 0) {
        backward_tile<K, S, 0>(row, column, weights, grads, u, du);
      } else {
        backward_tile<K, S, S - 1>(row, column, weights, grads, u, du);
      }
      if (row.dz == nullptr) return;
      if (row.addend) {
        load_tile(row.addend + q * stride + i, stride, in, u);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) du[t] += row.weight * u[t];
      }
      load_tile(x, row.x_stride, in, u);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        du[t] *= derivative<A>(scale[0] * u[t] + shift[0]);
        sum += du[t];
        centred += du[t] * (u[t] - mean[0]);
      }
      float* dz = row.dz + q * stride + i;
      if (row.how == Write::accumulate) {
        load_tile(dz, stride, in, u);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) du[t] += u[t];
      }
      store_tile(dz, stride, out, du);
    });
    store(row.sum_dz + i, load(row.sum_dz + i) + sum);
    store(row.sum_dz_centred + i, load(row.sum_dz_centred + i) + centred);
    weights += K * K * kLanes;
    grads += K * K * kLanes;
    block += row.block;
  }
}

template <int K, int S>
void backward(const BackwardRow& row) {
  with_act(row.act, [&](auto act) { backward_row<K, S, decltype(act)::value>(row); });
}

}  // namespace

const DepthwiseLoops depthwise_loops = {
    kLanes,
    source,
    incoming,
    {{forward_row<3, 1>, forward_row<3, 2>},
     {forward_row<5, 1>, forward_row<5, 2>},
     {forward_row<7, 1>, forward_row<7, 2>}},
    {{backward<3, 1>, backward<3, 2>},
     {backward<5, 1>, backward<5, 2>},
     {backward<7, 1>, backward<7, 2>}},
};

}  // namespace tunas::kernels::cpu::TUNAS_ISA

// Channels outside, rows inside, kGroup vectors of channels at a time: what belongs to a channel
// (scale, shift, sums) stays in registers, and a row is touched in whole cache lines.
#include "kernels/pointwise_loops.h"

#include "kernels/simd.h"

namespace tunas::kernels::cpu::TUNAS_ISA {
namespace {

constexpr int kGroup = 2;

// f(i, Part, Count<n>) for n <= kGroup vectors of channels from i on.
template <int N>
struct Count {
  static constexpr int value = N;
};

template <class F>
inline void for_groups(int c, F&& f) {
  int i = 0;
  for (; i + kGroup * kLanes <= c; i += kGroup * kLanes) f(i, Full{}, Count<kGroup>{});
  for (; i + kLanes <= c; i += kLanes) f(i, Full{}, Count<1>{});
#if defined(__AVX512F__)
  if (i < c) f(i, Half{}, Count<1>{});
#endif
}

// Vectors that belong to a group of channels.
template <int N, class Part>
struct Channels {
  Vec v[N];

  Channels(const float* p, float otherwise) {
    for (int j = 0; j < N; ++j) v[j] = p ? load(p + j * kLanes, Part{}) : broadcast(otherwise);
  }
  void add_to(float* p) const {
    for (int j = 0; j < N; ++j) {
      store(p + j * kLanes, load(p + j * kLanes, Part{}) + v[j], Part{});
    }
  }
};

inline const float* at(const float* p, int i) { return p ? p + i : nullptr; }

void load_source(const LoadSource& args) {
  with_act(args.act, [&](auto act) {
    for_groups(args.c, [&](int i, auto part, auto count) {
      constexpr int n = decltype(count)::value;
      using C = Channels<n, decltype(part)>;
      const C scale(at(args.scale, i), 1), shift(at(args.shift, i), 0), gate(at(args.gate, i), 1);
      const C pivot(at(args.pivot, i), 0);
      const float* y = args.y + i;
      float* u = args.u + i;
      for (int r = 0; r < args.rows; ++r, y += args.ldy, u += args.c) {
        for (int j = 0; j < n; ++j) {
          const Vec z = scale.v[j] * load(y + j * kLanes, part) + shift.v[j];
          const Vec a = activate<decltype(act)::value>(z);
          store(u + j * kLanes, a * gate.v[j] - pivot.v[j], part);
        }
      }
    });
  });
}

enum class Gradient { stored, deferred, spread };  // dz; da and perhaps a spread; a spread alone

// Here rows outside, a few together: dz and y are wide where this counts (expansions), and a
// channel of each row of a strip would be on a page of its own, more pages than a processor
// translates at a time. What belongs to a channel comes from L1.
template <Gradient G, Act A, int Rows>
void load_incoming_rows(const LoadIncoming& args, int first) {
  for_channels(args.c, [&](int i, auto part) {
    const Vec ca = load(args.ca + i, part), cb = load(args.cb + i, part);
    const Vec cc = load(args.cc + i, part);
    Vec scale = {}, shift = {}, spread = {};
    if constexpr (G != Gradient::stored) {
      scale = load(args.scale + i, part);
      shift = load(args.shift + i, part);
      if (args.spread) spread = load(args.spread + i, part);
    }
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) {
      const long p = long{first + r} * args.c + i;
      const Vec y = load(args.y + p, part);
      Vec dz = spread;
      if constexpr (G == Gradient::stored) dz = load(args.dz + p, part);
      if constexpr (G == Gradient::deferred) dz += args.weight * load(args.dz + p, part);
      if constexpr (G != Gradient::stored) dz *= derivative<A>(scale * y + shift);
      store(args.dy + p, ca * dz + (cb * y + cc), part);
    }
  });
}

template <Gradient G, Act A>
void load_incoming_as(const LoadIncoming& args) {
  constexpr int kTogether = 4;
  int r = 0;
  for (; r + kTogether <= args.rows; r += kTogether) load_incoming_rows<G, A, kTogether>(args, r);
  for (; r < args.rows; ++r) load_incoming_rows<G, A, 1>(args, r);
}

void load_incoming(const LoadIncoming& args) {
  if (!args.scale) return load_incoming_as<Gradient::stored, Act::none>(args);
  with_act(args.act, [&](auto act) {
    constexpr Act a = decltype(act)::value;
    args.dz ? load_incoming_as<Gradient::deferred, a>(args)
            : load_incoming_as<Gradient::spread, a>(args);
  });
}

// With s = sum (y - pivot) and q = sum (y - pivot)^2, M2 = q - s^2/rows. The pivot is one of the
// values, so s^2/rows <= rows*M2 and no more than a factor `rows` of the precision can cancel,
// whatever the mean.
void finish_moments(const FinishMoments& args) {
  const float inv_rows = 1.0f / static_cast<float>(args.rows);
  for_channels(args.c, [&](int i, auto part) {
    const Vec s = load(args.sum + i, part), d = s * inv_rows;
    store(args.pivot + i, load(args.pivot + i, part) + d, part);
    store(args.sum + i, max(Vec{}, load(args.square + i, part) - s * d), part);
  });
}

template <Act A, bool Sums, Write How>
void store_grad_as(const StoreGrad& args) {
  const float* const addend = args.addend;
  for_groups(args.c, [&](int i, auto part, auto count) {
    constexpr int n = decltype(count)::value;
    using C = Channels<n, decltype(part)>;
    const C scale(at(args.scale, i), 1), shift(at(args.shift, i), 0), mean(at(args.mean, i), 0);
    C sum(nullptr, 0), sum_y(nullptr, 0);
    for (int r = 0; r < args.rows; ++r) {
      const float* du = args.du + static_cast<long>(r) * args.c + i;
      const long row = r * args.ld + i;
      for (int j = 0; j < n; ++j) {
        const long p = row + j * kLanes;
        Vec dz = load(du + j * kLanes, part);
        if (addend) dz += args.weight * load(addend + p, part);
        Vec y = {};
        if constexpr (A != Act::none || Sums) y = load(args.y + p, part);
        if constexpr (A != Act::none) dz *= derivative<A>(scale.v[j] * y + shift.v[j]);
        if constexpr (Sums) {
          sum.v[j] += dz;
          sum_y.v[j] += dz * (y - mean.v[j]);
        }
        if constexpr (How == Write::accumulate) dz += load(args.dz + p, part);
        store(args.dz + p, dz, part);
      }
    }
    if constexpr (Sums) {
      sum.add_to(args.sum_dz + i);
      sum_y.add_to(args.sum_dz_y + i);
    }
  });
}

template <Act A, bool Sums, Write How>
void store_gated_as(const StoreGrad& args) {
  for_groups(args.c, [&](int i, auto part, auto count) {
    constexpr int n = decltype(count)::value;
    using C = Channels<n, decltype(part)>;
    const C scale(at(args.scale, i), 1), shift(at(args.shift, i), 0), gate(args.gate + i, 0);
    const C mean(at(args.mean, i), 0);
    C dgate(nullptr, 0), sum(nullptr, 0), sum_y(nullptr, 0);
    for (int r = 0; r < args.rows; ++r) {
      const float* du = args.du + static_cast<long>(r) * args.c + i;
      const long row = r * args.ld + i;
      for (int j = 0; j < n; ++j) {
        const long p = row + j * kLanes;
        const Vec d = load(du + j * kLanes, part);
        const Vec y = load(args.y + p, part);
        const Vec z = scale.v[j] * y + shift.v[j];
        dgate.v[j] += d * activate<A>(z);
        Vec dz = d * gate.v[j];
        if constexpr (Sums) {
          const Vec slope = dz * derivative<A>(z);
          sum.v[j] += slope;
          sum_y.v[j] += slope * (y - mean.v[j]);
        }
        if constexpr (How == Write::accumulate) dz += load(args.dz + p, part);
        store(args.dz + p, dz, part);
      }
    }
    dgate.add_to(args.dgate + i);
    if constexpr (Sums) {
      sum.add_to(args.sum_dz + i);
      sum_y.add_to(args.sum_dz_y + i);
    }
  });
}

template <Act A, bool Sums, Write How>
void store_any(const StoreGrad& args) {
  args.gate ? store_gated_as<A, Sums, How>(args) : store_grad_as<A, Sums, How>(args);
}

template <Act A, Write How>
void store_grad_how(const StoreGrad& args) {
  args.mean ? store_any<A, true, How>(args) : store_any<A, false, How>(args);
}

void store_grad(const StoreGrad& args) {
  with_act(args.act, [&](auto act) {
    constexpr Act a = decltype(act)::value;
    if (args.how == Write::overwrite) {
      store_grad_how<a, Write::overwrite>(args);
    } else {
      store_grad_how<a, Write::accumulate>(args);
    }
  });
}

void sum_rows(const SumRows& args) {
  for_groups(args.c, [&](int i, auto part, auto count) {
    constexpr int n = decltype(count)::value;
    Channels<n, decltype(part)> sum(nullptr, 0);
    const float* x = args.x + i;
    for (int r = 0; r < args.rows; ++r, x += args.ld) {
      for (int j = 0; j < n; ++j) sum.v[j] += load(x + j * kLanes, part);
    }
    sum.add_to(args.sum + i);
  });
}

}  // namespace

extern const PointwiseLoops pointwise_loops = {load_source, load_incoming, finish_moments,
                                               store_grad, sum_rows};

}  // namespace tunas::kernels::cpu::TUNAS_ISA

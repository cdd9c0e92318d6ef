// Rows of mix and pool; what each computes is in mix_loops.h. Memory is read and written in its
// order; sums are kept in their arrays, which stay in L1.
#include "kernels/mix_loops.h"

#include "kernels/simd.h"

namespace tunas::kernels::cpu::TUNAS_ISA {
namespace {

/// z of one vector; `rows` is any of the structs.
template <class Rows, class Part>
inline Vec normalised(const Rows& rows, Vec y, int i, Part part) {
  return rows.scale ? load(rows.scale + i, part) * y + load(rows.shift + i, part) : y;
}

template <Act A, Write How>
void mix_rows(const MixRows& rows) {
  for (long r = 0; r < rows.rows; ++r) {
    const float* y = rows.y + r * rows.c;
    float* out = rows.out + r * rows.c;
    for_channels(rows.c, [&](int i, auto part) {
      Vec a = rows.weight * activate<A>(normalised(rows, load(y + i, part), i, part));
      if constexpr (How == Write::accumulate) a += load(out + i, part);
      store(out + i, a, part);
    });
  }
}

void mix(const MixRows& rows) {
  with_act(rows.act, [&](auto act) {
    constexpr Act A = decltype(act)::value;
    rows.how == Write::overwrite ? mix_rows<A, Write::overwrite>(rows)
                                 : mix_rows<A, Write::accumulate>(rows);
  });
}

/// Calls f(first row, Rows<4>), at the end f(row, Rows<1>): rows taken together share the loads of
/// the channel arrays.
template <int N>
struct Rows {
  static constexpr int value = N;
};
template <class F>
inline void for_rows(long rows, F&& f) {
  long r = 0;
  for (; r + 4 <= rows; r += 4) f(r, Rows<4>{});
  for (; r < rows; ++r) f(r, Rows<1>{});
}

template <Act A, bool Slopes>
void sum_act_rows(const SumActRows& rows) {
  for_rows(rows.rows, [&](long first, auto together) {
    for_channels(rows.c, [&](int i, auto part) {
      const Vec mean = Slopes ? load(rows.mean + i, part) : Vec{};
      Vec sum = load(rows.sum + i, part), slopes = {}, centred = {};
#pragma GCC unroll 4
      for (int r = 0; r < decltype(together)::value; ++r) {
        const Vec y = load(rows.y + (first + r) * rows.stride + i, part);
        const Vec z = normalised(rows, y, i, part);
        sum += activate<A>(z);
        if constexpr (Slopes) {
          const Vec slope = derivative<A>(z);
          slopes += slope;
          centred += slope * (y - mean);
        }
      }
      store(rows.sum + i, sum, part);
      if constexpr (Slopes) {
        store(rows.slope_sum + i, load(rows.slope_sum + i, part) + slopes, part);
        store(rows.slope_sum_centred + i, load(rows.slope_sum_centred + i, part) + centred, part);
      }
    });
  });
}

void sum_act(const SumActRows& rows) {
  with_act(rows.act, [&](auto act) {
    constexpr Act A = decltype(act)::value;
    rows.mean ? sum_act_rows<A, true>(rows) : sum_act_rows<A, false>(rows);
  });
}

template <Act A, bool Sums>
void act_grad_rows(const ActGradRows& rows) {
  for_rows(rows.rows, [&](long first, auto together) {
    for_channels(rows.c, [&](int i, auto part) {
      const Vec constant = rows.constant ? rows.share * load(rows.constant + i, part) : Vec{};
      const Vec mean = Sums ? load(rows.mean + i, part) : Vec{};
      Vec sum = {}, centred = {};
#pragma GCC unroll 4
      for (int r = 0; r < decltype(together)::value; ++r) {
        const long at = (first + r) * rows.c + i;
        Vec dz = constant;
        if (rows.da) dz += rows.weight * load(rows.da + at, part);
        if constexpr (A != Act::none || Sums) {
          const Vec y = load(rows.y + at, part);
          dz *= derivative<A>(normalised(rows, y, i, part));
          sum += dz;
          centred += dz * (y - mean);
        }
        if (!rows.dz) continue;
        if (rows.how == Write::accumulate) dz += load(rows.dz + at, part);
        store(rows.dz + at, dz, part);
      }
      if constexpr (Sums) {
        store(rows.sum_dz + i, load(rows.sum_dz + i, part) + sum, part);
        store(rows.sum_dz_centred + i, load(rows.sum_dz_centred + i, part) + centred, part);
      }
    });
  });
}

void act_grad(const ActGradRows& rows) {
  with_act(rows.act, [&](auto act) {
    constexpr Act A = decltype(act)::value;
    rows.mean ? act_grad_rows<A, true>(rows) : act_grad_rows<A, false>(rows);
  });
}

}  // namespace

const MixLoops mix_loops = {mix, sum_act, act_grad};

}  // namespace tunas::kernels::cpu::TUNAS_ISA

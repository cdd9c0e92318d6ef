// Weighted sum of sources on the CPU: pieces of rows that fit in L1 go through the terms one after
// the other, so that each tensor is read once and `out` is written once; sums of terms likewise.
#include "kernels/mix.h"

#include <algorithm>

#include "kernels/act_grad.h"
#include "kernels/check.h"
#include "kernels/mix_loops.h"
#include "kernels/parallel.h"
#include "kernels/tiles.h"

namespace tunas::kernels {

Cost cost(const MixForward& args) {
  Cost cost{4.0 * args.terms * static_cast<double>(args.out.size()), 0, bytes_of(args.out)};
  for (int t = 0; t < args.terms; ++t) cost.bytes_read += bytes_of(args.x[t].y);
  return cost;
}

Cost cost(const MixBackward& args) {
  const double dz = bytes_of(args.dx.dz);
  if (dz == 0) return {};
  const bool needs_y = args.x.act != Act::none || args.dx.mean;
  return {8.0 * static_cast<double>(args.dout.size()),
          bytes_of(args.dout) + (needs_y ? bytes_of(args.x.y) : 0) +
              (args.dx.how == Write::accumulate ? dz : 0),
          dz};
}

Cost cost(const MixSums& args) {
  Cost cost{8.0 * args.terms * static_cast<double>(args.dout.size()), bytes_of(args.dout), 0};
  for (int t = 0; t < args.terms; ++t) cost.bytes_read += bytes_of(args.term[t].x.y);
  return cost;
}

namespace cpu {
namespace {

constexpr long kPieceFloats = 4 << 10, kPieces = 16;  // of a tile

void check(const MixSums& args) {
  require(args.terms >= 1 && args.terms <= MixForward::kMaxTerms, "mix_sums: ", args.terms,
          " terms; it takes 1 to ", MixForward::kMaxTerms);
  check_same_shape("mix_sums", "dout", args.dout, args.term[0].x.y);
  require(args.dout.c % 8 == 0, "mix_sums: width ", args.dout.c, " is not a multiple of 8");
  for (int t = 0; t < args.terms; ++t) {
    const MixSums::Term& term = args.term[t];
    check_same_shape("mix_sums", "a term", term.x.y, args.dout);
    require(!term.x.gate, "mix_sums: a term is gated; only pointwise takes a gate");
    require(term.x.scale && term.x.shift && term.mean && term.inv_std,
            "mix_sums: a term is not normalised; it has no sums");
    require(term.sum_dz && term.sum_dz_xhat, "mix_sums: a term has no place for its sums");
  }
}

}  // namespace

void mix(CpuContext& context, const MixForward& args) {
  const Tensor& out = args.out;
  require(args.terms >= 1 && args.terms <= MixForward::kMaxTerms, "mix: ", args.terms,
          " terms; it takes 1 to ", MixForward::kMaxTerms);
  check_same_shape("mix", "out", out, args.x[0].y);
  require(out.c % 8 == 0, "mix: width ", out.c, " is not a multiple of 8");
  for (int t = 0; t < args.terms; ++t) {
    const Source& x = args.x[t];
    check_same_shape("mix", "a term", x.y, out);
    require(!x.gate, "mix: a term is gated; only pointwise takes a gate");
    require(!x.scale == !x.shift, "mix: pass both scale and shift or neither");
  }
  const MixLoops& loops = mix_loops();
  const long piece = std::max(kPieceFloats / out.c, 1L), tile = piece * kPieces;
  parallel(context, (out.rows() + tile - 1) / tile, [&](long index, int) {
    const long end = std::min((index + 1) * tile, out.rows());
    for (long begin = index * tile; begin < end; begin += piece) {
      for (int t = 0; t < args.terms; ++t) {
        const Source& x = args.x[t];
        loops.mix({.rows = std::min(piece, end - begin),
                   .c = out.c,
                   .y = x.y.f32() + begin * out.c,
                   .scale = x.scale,
                   .shift = x.shift,
                   .act = x.act,
                   .weight = args.weight[t],
                   .how = t == 0 ? Write::overwrite : Write::accumulate,
                   .out = out.f32() + begin * out.c});
      }
    }
  });
}

void mix_backward(CpuContext& context, const MixBackward& args) {
  if (!args.dx.dz) return;
  require(args.dout.data, "mix_backward: dout has no memory; pass a tensor");
  act_grad(context, {.kernel = "mix_backward",
                     .da = args.dout,
                     .weight = args.weight,
                     .constant = {},
                     .x = args.x,
                     .dx = args.dx});
}

void mix_sums(CpuContext& context, const MixSums& args) {
  check(args);
  const int c = args.dout.c;
  const MixLoops& loops = mix_loops();
  const long all = args.dout.rows();
  const long piece = std::max(kPieceFloats / c, 1L), tile = piece * kPieces;
  const long tiles = (all + tile - 1) / tile;
  const long term_size = whole_lines(2L * c), partial_size = args.terms * term_size;
  float* partial = Workspace(context, "mix_sums").take(tiles * partial_size);
  parallel(context, tiles, [&](long index, int) {
    float* sums = partial + index * partial_size;
    std::fill(sums, sums + partial_size, 0.0f);
    const long end = std::min((index + 1) * tile, all);
    for (long begin = index * tile; begin < end; begin += piece) {
      for (int t = 0; t < args.terms; ++t) {
        const MixSums::Term& term = args.term[t];
        loops.act_grad({.rows = std::min(piece, end - begin),
                        .c = c,
                        .weight = term.weight,
                        .da = args.dout.f32() + begin * c,
                        .y = term.x.y.f32() + begin * c,
                        .scale = term.x.scale,
                        .shift = term.x.shift,
                        .act = term.x.act,
                        .mean = term.mean,
                        .sum_dz = sums + t * term_size,
                        .sum_dz_centred = sums + t * term_size + c});
      }
    }
  });
  for (int t = 0; t < args.terms; ++t) {
    add_source_sums(args.term[t].grad(), partial + t * term_size, static_cast<int>(tiles),
                    partial_size, c);
  }
}

}  // namespace cpu
}  // namespace tunas::kernels

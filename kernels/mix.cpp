// Weighted sum of sources on the CPU: pieces of rows that fit in L1 go through the terms one after
// the other, so that each tensor is read once and `out` is written once.
#include "kernels/mix.h"

#include <algorithm>

#include "kernels/act_grad.h"
#include "kernels/check.h"
#include "kernels/mix_loops.h"
#include "kernels/parallel.h"

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

namespace cpu {

void mix(CpuContext& context, const MixForward& args) {
  constexpr long kPieceFloats = 4 << 10, kPieces = 16;  // of a tile
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

}  // namespace cpu
}  // namespace tunas::kernels

#include "engine/ops/image.h"

#include "kernels/image.h"

namespace tunas::engine {

Var image(Tape& tape, const Inputs& inputs, const ImageInput& op) {
  const int side = op.resolution + 2 * op.border;
  const Var out = tape.activation(inputs.n, side, side, 4, Tape::Gradient::none);
  kernels::Image args;
  args.pixels = inputs.pixels;
  args.crops = inputs.crops;
  args.crop_pixels = inputs.crop_pixels;
  args.resample = op.preprocess.resample;
  args.normalization = op.preprocess.normalization;
  args.border = op.border;
  args.out = tape.value(out);
  kernels::image(tape.stream(), args);
  return out;
}

}  // namespace tunas::engine

#include "engine/ops/image.h"

#include "kernels/image.h"

namespace tunas::engine {

Var image(Tape& tape, const Batch& batch, const ImageInput& op) {
  const int side = op.resolution + 2 * op.border;
  const Var out = tape.activation(batch.size(), side, side, 4, Tape::Gradient::none);
  kernels::Image args;
  args.pixels = batch.pixels;
  args.crops = batch.crops.data();
  for (const Crop& crop : batch.crops) args.crop_pixels += 1.0 * crop.h * crop.w;
  args.resample = op.resample;
  args.border = op.border;
  args.out = tape.value(out);
  kernels::image(tape.stream(), args);
  return out;
}

}  // namespace tunas::engine

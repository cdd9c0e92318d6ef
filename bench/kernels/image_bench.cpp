// Crops of random bytes, `hw` on a side, every second one flipped, to images of `size` with the
// border of a 3x3 stem; the operation is the resampling.
#include "kernels/image.h"

#include "bench/kernels/problems.h"
#include "kernels/error.h"
#include "tests/support/synthetic_batch.h"

namespace tunas::bench {
namespace {

using namespace kernels;

struct Crops {
  SyntheticBatch synthetic;
  Floats out;
  Image image;

  static int stored(const Problem& p) { return p.size + 2; }

  explicit Crops(const Problem& p)
      : synthetic(p.n, p.h, 1001), out(4L * p.n * stored(p) * stored(p)) {
    require(p.op == "legacy_bicubic" || p.op == "bicubic", "image_bench: '", p.op,
            "' is not legacy_bicubic or bicubic");
    image.pixels = synthetic.batch.pixels;
    image.crops = synthetic.batch.crops.data();
    image.crop_pixels = 1.0 * p.n * p.h * p.h;
    image.resample = p.op == "bicubic" ? Resample::bicubic : Resample::legacy_bicubic;
    image.border = 1;
    image.out = {out.get(), DType::f32, p.n, stored(p), stored(p), 4};
  }
};

void add(const Bench& bench) { bench.add("", &Crops::image, kernels::image); }

}  // namespace
}  // namespace tunas::bench

int main(int argc, char** argv) {
  return tunas::bench::main(argc, argv,
                            {
                                "legacy_bicubic n=16 hw=256 size=224",
                                "bicubic n=16 hw=256 size=224",
                            },
                            tunas::bench::add);
}

// The image kernel on the GPU against the filters' definitions in double: every mode and type,
// crops of all sizes in one batch, inside larger pictures, flipped, framed.
#include "kernels/image.h"

#include <algorithm>

#include "kernels/error.h"
#include "tests/cuda/field.h"

namespace tunas::testing {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr Resample kModes[] = {Resample::legacy_bicubic, Resample::bicubic, Resample::bilinear};

double cubic(double a, double x) {
  x = std::abs(x);
  if (x < 1) return (a + 2) * x * x * x - (a + 3) * x * x + 1;
  return x < 2 ? a * (x * x * x - 5 * x * x + 8 * x - 4) : 0;
}

/// The share every source pixel has in position `at` of the result.
Values shares(Resample mode, int at, int in, int out) {
  Values share(in);
  if (mode == Resample::legacy_bicubic) {
    const float place = static_cast<float>(at) * (static_cast<float>(in) / static_cast<float>(out));
    const int floor = static_cast<int>(place);
    const double snapped = std::nearbyint((place - static_cast<double>(floor)) * 1024) / 1024;
    for (int k = -1; k <= 2; ++k) {
      share[std::min(std::max(floor + k, 0), in - 1)] += cubic(-0.75, k - snapped);
    }
    return share;
  }
  const double scale = static_cast<double>(in) / out, stretch = std::max(1.0, scale);
  double sum = 0;
  for (int i = 0; i < in; ++i) {
    const double x = (i + 0.5 - (at + 0.5) * scale) / stretch;
    share[i] = mode == Resample::bicubic ? cubic(-0.5, x) : std::max(0.0, 1 - std::abs(x));
    sum += share[i];
  }
  // As Pillow: in units of 2^-22.
  for (double& v : share) v = std::round(v / sum * 4194304) / 4194304;
  return share;
}

/// [h][w][3] of one crop, before normalisation.
Values resized(Resample mode, const Bytes& pixels, const Crop& crop, int h, int w) {
  const auto byte = [&](double v) {
    return mode == Resample::legacy_bicubic ? v
                                            : std::min(std::max(std::floor(v + 0.5), 0.0), 255.0);
  };
  Values columns(3UL * crop.h * w), out(3UL * h * w);
  for (int x = 0; x < w; ++x) {
    const Values share = shares(mode, crop.flip ? w - 1 - x : x, crop.w, w);
    for (int y = 0; y < crop.h; ++y)
      for (int c = 0; c < 3; ++c) {
        double sum = 0;
        for (int i = 0; i < crop.w; ++i) {
          sum += share[i] *
                 pixels[crop.offset + static_cast<std::size_t>(y) * crop.stride + 3UL * i + c];
        }
        columns[3UL * (static_cast<std::size_t>(y) * w + x) + c] = byte(sum);
      }
  }
  for (int y = 0; y < h; ++y) {
    const Values share = shares(mode, y, crop.h, h);
    for (int x = 0; x < 3 * w; ++x) {
      double sum = 0;
      for (int i = 0; i < crop.h; ++i) sum += share[i] * columns[3UL * i * w + x];
      out[3UL * y * w + x] = byte(sum);
    }
  }
  return out;
}

/// Crops with their noise: rows `gap` bytes longer than needed, as inside a larger picture.
struct Pictures {
  Bytes pixels;
  std::vector<Crop> crops;

  void add(int h, int w, bool flip = false, int gap = 0) {
    const std::size_t at = pixels.size() + 5;  // offsets are odd, as they are in a batch
    const int stride = 3 * w + gap;
    crops.push_back({at, h, w, stride, flip});
    std::mt19937 generator(static_cast<unsigned>(at));
    pixels.resize(at + static_cast<std::size_t>(h) * stride);
    for (std::size_t i = at; i < pixels.size(); ++i) {
      // Every second pixel at an end of the range, so that cubic overshoots are clamped.
      const unsigned v = generator();
      pixels[i] = static_cast<std::uint8_t>(v & 256 ? (v & 512 ? 255 : 0) : v & 255);
    }
  }
};

struct Frame {
  Resample mode;
  DType type = DType::f32;
  int h, w, border = 0;
  bool normalise = true;
};

void run(const Pictures& in, const Frame& frame) {
  SCOPED_TRACE(::testing::Message()
               << "mode " << static_cast<int>(frame.mode) << " to " << frame.h << "x" << frame.w
               << "+" << frame.border << (frame.type == DType::bf16 ? " bf16" : " f32"));
  const int n = static_cast<int>(in.crops.size());
  const int h = frame.h + 2 * frame.border, w = frame.w + 2 * frame.border;
  const Buffer pixels(in.pixels.size()), crops(n * sizeof(Crop));
  cuda_ok(cudaMemcpy(pixels.data(), in.pixels.data(), pixels.bytes(), cudaMemcpyHostToDevice));
  cuda_ok(cudaMemcpy(crops.data(), in.crops.data(), crops.bytes(), cudaMemcpyHostToDevice));
  const Field out(frame.type, n, h, w, 4);
  kernels::Image args;
  args.pixels = static_cast<const std::uint8_t*>(pixels.data());
  args.crops = static_cast<const Crop*>(crops.data());
  args.resample = frame.mode;
  args.border = frame.border;
  args.out = out.tensor();
  for (int c = 0; c < 3; ++c) {
    args.normalization.mean[c] = frame.normalise ? 100.0f + 10 * static_cast<float>(c) : 0.0f;
    args.normalization.std[c] = frame.normalise ? 50.0f + 5 * static_cast<float>(c) : 1.0f;
  }
  kernels::cuda::image(gpu(), args);
  const Values got = out.download();
  const bool bytes = frame.mode != Resample::legacy_bicubic;
  for (int k = 0; k < n; ++k) {
    const Values rgb = resized(frame.mode, in.pixels, in.crops[k], frame.h, frame.w);
    Values inside, want;
    int other_bytes = 0;
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x)
        for (int c = 0; c < 4; ++c) {
          const double v = got[((static_cast<std::size_t>(k) * h + y) * w + x) * 4 + c];
          const int row = y - frame.border, column = x - frame.border;
          if (c == 3 || row < 0 || row >= frame.h || column < 0 || column >= frame.w) {
            ASSERT_EQ(v, 0) << "crop " << k << " at " << y << "," << x << "," << c;
            continue;
          }
          const double value = rgb[3UL * (static_cast<std::size_t>(row) * frame.w + column) + c];
          inside.push_back(v);
          want.push_back((value - args.normalization.mean[c]) / args.normalization.std[c]);
          if (bytes && !frame.normalise) other_bytes += v != value;
        }
    EXPECT_EQ(other_bytes, 0) << "crop " << k;
    EXPECT_LT(relative_error(inside, want), frame.type == DType::bf16 ? 3e-3 : 1e-6)
        << "crop " << k;
  }
}

TEST(CudaImage, CropsOfAllSizesInOneBatch) {
  Pictures in;
  in.add(41, 29);
  in.add(29, 41, true, 17);
  in.add(1, 1);
  in.add(1, 1, true);
  in.add(1, 7, true);
  in.add(90, 2, false, 3);
  in.add(5, 4, true);
  in.add(37, 37);  // the very size of the result
  in.add(120, 93, false, 200);
  for (const Resample mode : kModes) {
    run(in, {mode, DType::f32, 37, 37, 0, false});
    for (const DType type : {DType::f32, DType::bf16}) run(in, {mode, type, 37, 37, 3});
  }
}

TEST(CudaImage, ResultsOfAllSizes) {
  Pictures in;
  in.add(19, 23, true, 4);
  for (const Resample mode : kModes) {
    run(in, {mode, DType::f32, 1, 1, 0, false});
    run(in, {mode, DType::bf16, 1, 2, 1});
    run(in, {mode, DType::f32, 70, 33, 40, false});  // tiles of border alone
    run(in, {mode, DType::f32, 3, 300, 1});
    run(in, {mode, DType::bf16, 65, 31});
  }
}

TEST(CudaImage, LargePicturesToSmallResults) {
  Pictures in;
  in.add(500, 610, true, 8);
  in.add(3, 4000);
  in.add(3000, 2);
  in.add(170, 140);
  for (const Resample mode : kModes) {
    run(in, {mode, DType::f32, 5, 7, 1, false});
    run(in, {mode, DType::f32, 8, 40, 0, false});
  }
}

/// [h][w][4] of one crop.
Values one(const Bytes& picture, const Crop& crop, Resample mode, int h, int w) {
  const Buffer pixels(picture.size()), crops(sizeof(Crop));
  cuda_ok(cudaMemcpy(pixels.data(), picture.data(), pixels.bytes(), cudaMemcpyHostToDevice));
  cuda_ok(cudaMemcpy(crops.data(), &crop, crops.bytes(), cudaMemcpyHostToDevice));
  const Field out(DType::f32, 1, h, w, 4);
  kernels::Image args;
  args.pixels = static_cast<const std::uint8_t*>(pixels.data());
  args.crops = static_cast<const Crop*>(crops.data());
  args.resample = mode;
  args.out = out.tensor();
  kernels::cuda::image(gpu(), args);
  return out.download();
}

TEST(CudaImage, PartOfAResizedFrameIsThatPart) {
  constexpr int kOut = 40;
  Pictures in;
  in.add(131, 97);
  const CropAxis y = {131, 69, 14, 0}, x = {97, 51, 5, 0};
  for (const Resample mode : kModes) {
    const Values whole = one(in.pixels, in.crops[0], mode, y.size, x.size);
    const kernels::PixelRange rows = kernels::source_range(mode, y, kOut);
    const kernels::PixelRange columns = kernels::source_range(mode, x, kOut);
    Crop crop = in.crops[0];
    crop.offset += static_cast<std::uint64_t>(rows.first * crop.stride + 3 * columns.first);
    crop.h = rows.count;
    crop.w = columns.count;
    crop.flip = true;
    crop.y = {y.frame, y.size, y.shows, rows.first};
    crop.x = {x.frame, x.size, x.shows, columns.first};
    const Values part = one(in.pixels, crop, mode, kOut, kOut);
    for (int i = 0; i < kOut * kOut * 4; ++i) {
      const int row = y.shows + i / 4 / kOut, column = x.shows + kOut - 1 - i / 4 % kOut;
      ASSERT_EQ(part[i], whole[4 * (row * x.size + column) + i % 4]) << i;
    }
  }
}

TEST(CudaImage, RefusesWhatItCannotCompute) {
  const Field out(DType::f32, 1, 4, 4, 4);
  kernels::Image args;
  args.border = 2;
  args.out = out.tensor();
  EXPECT_THROW(kernels::cuda::image(gpu(), args), Error);
  args.border = 0;
  args.normalization.std[1] = 0;
  EXPECT_THROW(kernels::cuda::image(gpu(), args), Error);
}

}  // namespace
}  // namespace tunas::testing

// The image kernel against TensorFlow's legacy bicubic and Pillow's antialiased filters (golden
// files), against a naive resampling in double at real sizes, and its frame: normalisation, flip,
// border, strides, threads.
#include "kernels/image.h"
#include "kernels/parallel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "tests/support/memory.h"
#include "tests/support/random.h"

namespace tunas {
namespace {

using test::Cpu;
using test::Generator;
using test::Guarded;
using test::Values;
using Bytes = std::vector<std::uint8_t>;

nlohmann::json golden(const char* file) {
  std::ifstream in(std::string(TUNAS_SOURCE_DIR) + "/tests/golden/" + file);
  EXPECT_TRUE(in) << file;
  return nlohmann::json::parse(in);
}

struct Frame {
  Resample resample = Resample::legacy_bicubic;
  int h = 0, w = 0;  // of the result
  int border = 0;
  bool normalise = false;
  int threads = 1;
};

/// [n][h+2b][w+2b][4] of crops in `pixels`.
Values resize(const Bytes& pixels, const std::vector<Crop>& crops, const Frame& frame) {
  const int n = static_cast<int>(crops.size());
  const int h = frame.h + 2 * frame.border, w = frame.w + 2 * frame.border;
  Guarded out(4UL * n * h * w);
  Cpu cpu(frame.threads);
  kernels::Image args;
  args.pixels = pixels.data();
  args.crops = crops.data();
  args.resample = frame.resample;
  args.border = frame.border;
  if (!frame.normalise) {
    std::fill_n(args.normalization.mean, 3, 0.0f);
    std::fill_n(args.normalization.std, 3, 1.0f);
  }
  args.out = {out.data(), DType::f32, n, h, w, 4};
  kernels::image(cpu.stream(), args);
  return out.values();
}

Values resize(const Bytes& pixels, int h, int w, const Frame& frame) {
  return resize(pixels, {Crop{0, h, w, 3 * w, false}}, frame);
}

Bytes random_pixels(long pixels) {
  Generator generator;
  Bytes bytes(static_cast<std::size_t>(3 * pixels));
  for (auto& b : bytes) b = static_cast<std::uint8_t>(generator.integer(0, 255));
  return bytes;
}

/// Greatest |difference| of colours; lane 3 must be zero.
double worst(const Values& got, const Values& rgb) {
  EXPECT_EQ(got.size() / 4, rgb.size() / 3);
  double most = 0;
  for (std::size_t i = 0; i < rgb.size() / 3; ++i) {
    for (std::size_t c = 0; c < 3; ++c) {
      const double difference = std::abs(got[4 * i + c] - rgb[3 * i + c]);
      most = std::isnan(difference) ? INFINITY : std::max(most, difference);
    }
    EXPECT_EQ(got[4 * i + 3], 0);
  }
  return most;
}

template <class T>
std::vector<T> as_rgb(const std::vector<T>& values, int channels) {
  if (channels == 3) return values;
  std::vector<T> rgb;
  for (T v : values) rgb.insert(rgb.end(), 3, v);
  return rgb;
}

TEST(Image, LegacyBicubicIsTensorFlows) {
  const auto cases = golden("tensorflow.json")["resize_bicubic"];
  ASSERT_GE(cases.size(), 5u);
  for (const auto& c : cases) {
    const std::vector<int> in = c["x"]["shape"], out = c["y"]["shape"];
    const Bytes pixels = as_rgb(c["x"]["data"].get<Bytes>(), in[2]);
    const Values want = as_rgb(c["y"]["data"].get<Values>(), in[2]);
    const Values got = resize(pixels, in[0], in[1], {Resample::legacy_bicubic, out[0], out[1]});
    EXPECT_LT(worst(got, want), 1e-3) << in[0] << 'x' << in[1] << " to " << out[0] << 'x' << out[1];
  }
}

TEST(Image, AntialiasedFiltersArePillows) {
  const auto cases = golden("pillow.json")["cases"];
  ASSERT_GE(cases.size(), 12u);
  for (const auto& c : cases) {
    const std::vector<int> in = c["shape"], out = c["out"];
    const bool cubic = c["resample"] == "bicubic";
    const Values got = resize(c["pixels"].get<Bytes>(), in[0], in[1],
                              {cubic ? Resample::bicubic : Resample::bilinear, out[0], out[1]});
    EXPECT_EQ(worst(got, c["resized"].get<Values>()), 0)
        << c["resample"] << ' ' << in[0] << 'x' << in[1] << " to " << out[0];
  }
}

// ---- naive twins in double

double cubic(double a, double x) {
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/// weights[source] of result position `at`.
Values naive_weights(Resample kind, int at, int in, int out) {
  Values weights(static_cast<std::size_t>(in));
  const double scale = static_cast<double>(in) / out;
  if (kind == Resample::legacy_bicubic) {
    const float place = static_cast<float>(at) * (static_cast<float>(in) / static_cast<float>(out));
    const double snapped = std::nearbyint((place - std::floor(place)) * 1024) / 1024;
    for (int k = -1; k <= 2; ++k) {
      const int source = std::clamp(static_cast<int>(place) + k, 0, in - 1);
      weights[static_cast<std::size_t>(source)] += cubic(-0.75, k - snapped);
    }
    return weights;
  }
  const double stretch = std::max(1.0, scale), center = (at + 0.5) * scale;
  const double support = (kind == Resample::bilinear ? 1 : 2) * stretch;
  double sum = 0;
  for (int i = 0; i < in; ++i) {
    const double x = (i + 0.5 - center) / stretch;
    if (std::abs(x) * stretch > support) continue;
    weights[i] = kind == Resample::bilinear ? std::max(0.0, 1 - std::abs(x)) : cubic(-0.5, x);
    sum += weights[i];
  }
  for (double& w : weights) w /= sum;
  return weights;
}

Values naive_resize(const Bytes& pixels, int h, int w, const Frame& frame) {
  Values columns(3UL * h * frame.w), out(3UL * frame.h * frame.w);
  for (int x = 0; x < frame.w; ++x) {
    const Values weights = naive_weights(frame.resample, x, w, frame.w);
    for (int y = 0; y < h; ++y) {
      for (int i = 0; i < w; ++i) {
        for (int c = 0; c < 3; ++c) {
          columns[3 * (y * frame.w + x) + c] += weights[i] * pixels[3 * (y * w + i) + c];
        }
      }
    }
  }
  const bool bytes = frame.resample != Resample::legacy_bicubic;  // then clamped after each pass
  const auto clamp = [&](Values& values) {
    for (double& v : values) v = bytes ? std::clamp(v, 0.0, 255.0) : v;
  };
  clamp(columns);
  for (int y = 0; y < frame.h; ++y) {
    const Values weights = naive_weights(frame.resample, y, h, frame.h);
    for (int i = 0; i < h; ++i) {
      for (int x = 0; x < 3 * frame.w; ++x) {
        out[3 * y * frame.w + x] += weights[i] * columns[3 * i * frame.w + x];
      }
    }
  }
  clamp(out);
  return out;
}

TEST(Image, AgreesWithTheFormulasAtRealSizes) {
  const Bytes pixels = random_pixels(333L * 250);
  for (const Resample kind : {Resample::legacy_bicubic, Resample::bicubic, Resample::bilinear}) {
    for (const int r : {32, 176}) {
      const Frame frame = {kind, r, r};
      const Values want = naive_resize(pixels, 250, 333, frame);
      const bool bytes = kind != Resample::legacy_bicubic;
      // Bytes are rounded twice, after columns and after rows: up to half a step each, and
      // negative weights let the first half grow a little.
      EXPECT_LT(worst(resize(pixels, 250, 333, frame), want), bytes ? 1.3 : 1e-3)
          << static_cast<int>(kind) << " to " << r;
    }
  }
}

TEST(Image, NormalisesFlipsAndFrames) {
  const Bytes pixels = random_pixels(20 * 30);
  const std::vector<Crop> crops = {{3 * 33, 10, 12, 90, false}, {3 * 33, 10, 12, 90, true}};
  for (const Resample kind : {Resample::legacy_bicubic, Resample::bilinear}) {
    const Values plain = resize(pixels, crops, {kind, 8, 8});
    const Values framed = resize(pixels, crops, {kind, 8, 8, 2, true});
    const double mean[] = {123.675, 116.28, 103.53}, std[] = {58.395, 57.12, 57.375};
    for (int n = 0; n < 2; ++n) {
      for (int y = 0; y < 12; ++y) {
        for (int x = 0; x < 12; ++x) {
          const bool inside = y >= 2 && y < 10 && x >= 2 && x < 10;
          const double* got = &framed[4 * ((n * 12 + y) * 12 + x)];
          for (int c = 0; c < 4; ++c) {
            if (!inside || c == 3) {
              EXPECT_EQ(got[c], 0);
            } else {
              const double value = plain[4 * ((n * 8 + y - 2) * 8 + x - 2) + c];
              EXPECT_NEAR(got[c], (value - mean[c]) / std[c], 1e-6 * (1 + std::abs(value)));
            }
          }
        }
      }
    }
    for (int i = 0; i < 64; ++i) {
      const int mirror = i / 8 * 8 + 7 - i % 8;
      for (int c = 0; c < 3; ++c) EXPECT_EQ(plain[4 * i + c], plain[4 * (64 + mirror) + c]);
    }
  }
}

TEST(Image, CropsByOffsetAndStride) {
  const Bytes pixels = random_pixels(20 * 30);
  Bytes cut;
  for (int y = 5; y < 14; ++y) {
    cut.insert(cut.end(), pixels.begin() + 3 * (y * 30 + 7), pixels.begin() + 3 * (y * 30 + 18));
  }
  for (const Resample kind : {Resample::legacy_bicubic, Resample::bicubic, Resample::bilinear}) {
    const Values from_whole = resize(pixels, {Crop{3 * (5 * 30 + 7), 9, 11, 90}}, {kind, 16, 16});
    EXPECT_EQ(from_whole, resize(cut, 9, 11, {kind, 16, 16}));
  }
}

/// The crop that `out` positions of a frame's result need, from `y.shows`, `x.shows` on.
Crop part_of(Resample kind, CropAxis y, CropAxis x, int out) {
  const kernels::PixelRange rows = kernels::source_range(kind, y, out);
  const kernels::PixelRange columns = kernels::source_range(kind, x, out);
  y.begin = rows.first;
  x.begin = columns.first;
  const int at = 3 * (rows.first * x.frame + columns.first);
  return {static_cast<std::uint64_t>(at), rows.count, columns.count, 3 * x.frame, false, y, x};
}

TEST(Image, PartOfAResizedFrameIsThatPart) {
  constexpr int kOut = 9;
  const struct {
    CropAxis y, x;
  } cases[] = {{{50, 25, 8, 0}, {37, 19, 5, 0}},
               {{30, 64, 0, 0}, {23, 49, 40, 0}},  // enlarged, at the edges
               {{61, 13, 4, 0}, {200, 9, 0, 0}},
               {{24, 24, 15, 0}, {31, 31, 11, 0}}};
  for (const auto& [y, x] : cases) {
    const Bytes pixels = random_pixels(y.frame * x.frame);
    for (const Resample kind : {Resample::legacy_bicubic, Resample::bicubic, Resample::bilinear}) {
      const Values whole = resize(pixels, y.frame, x.frame, {kind, y.size, x.size});
      Crop crop = part_of(kind, y, x, kOut);
      const Values part = resize(pixels, {crop}, {kind, kOut, kOut});
      for (int i = 0; i < kOut * kOut * 4; ++i) {
        const int row = y.shows + i / 4 / kOut, column = x.shows + i / 4 % kOut;
        ASSERT_EQ(part[i], whole[4 * (row * x.size + column) + i % 4]) << y.frame << ' ' << i;
      }
      crop.flip = true;
      const Values mirrored = resize(pixels, {crop}, {kind, kOut, kOut});
      for (int i = 0; i < kOut * kOut * 4; ++i) {
        const int row = i / 4 / kOut, column = kOut - 1 - i / 4 % kOut;
        ASSERT_EQ(mirrored[i], part[4 * (row * kOut + column) + i % 4]);
      }
      crop.w -= 1;  // now short of a pixel
      EXPECT_THROW(resize(pixels, {crop}, {kind, kOut, kOut}), Error);
    }
  }
}

TEST(Image, SameBitsForAnyNumberOfThreadsAndLittleWorkspace) {
  const Bytes pixels = random_pixels(100 * 100);
  std::vector<Crop> crops;
  for (int i = 0; i < 7; ++i) crops.push_back({3UL * i, 40 + 8 * i, 90 - 10 * i, 300, i % 2 == 1});
  for (const Resample kind : {Resample::legacy_bicubic, Resample::bicubic}) {
    const Values one = resize(pixels, crops, {kind, 24, 24, 1, true, 1});
    for (const int threads : {2, 3}) {
      EXPECT_EQ(one, resize(pixels, crops, {kind, 24, 24, 1, true, threads}));
    }
    Guarded out(one.size());
    std::vector<char> workspace(8000);
    Workers workers(3);
    CpuContext tight{3, &workers, workspace.data(), workspace.size()};
    kernels::Image args;
    args.pixels = pixels.data();
    args.crops = crops.data();
    args.resample = kind;
    args.border = 1;
    args.out = {out.data(), DType::f32, 7, 26, 26, 4};
    kernels::image({Kind::cpu, &tight}, args);
    EXPECT_EQ(one, out.values());
    tight.workspace_bytes = 100;
    EXPECT_THROW(kernels::image({Kind::cpu, &tight}, args), Error);
  }
}

TEST(Image, RefusesWhatItCannotCompute) {
  const Bytes pixels = random_pixels(16);
  EXPECT_THROW(resize(pixels, 0, 4, {Resample::bicubic, 8, 8}), Error);
  EXPECT_THROW(resize(pixels, {Crop{0, 4, 4, 8}}, {Resample::bicubic, 8, 8}), Error);
  EXPECT_THROW(resize(pixels, 4, 4, {Resample::bicubic, 0, 8}), Error);
}

TEST(Image, DeclaresItsCost) {
  float place;
  kernels::Image args;
  args.crop_pixels = 150 * 150;
  args.border = 1;
  args.out = {&place, DType::f32, 1, 10, 10, 4};
  EXPECT_EQ(kernels::cost(args).bytes_read, 67500);
  EXPECT_EQ(kernels::cost(args).bytes_written, 1600);
  EXPECT_EQ(kernels::cost(args).flops, 6.0 * (4 * 8 * 150 + 4 * 8 * 8));
}

}  // namespace
}  // namespace tunas

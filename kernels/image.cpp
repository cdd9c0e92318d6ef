// The image kernel on the CPU: one image per thread at a time, separable passes row by row.
//
//   legacy_bicubic   four source rows are blended, then columns are resampled, as TensorFlow does.
//                    Its operator looks the weights up at the position rounded to 1/1024, so do we.
//   bicubic/bilinear columns first, rounded to bytes, then rows, in 22-bit fixed point: the same
//                    bytes as Pillow. Column-resampled rows live in a ring as tall as one window.
//
// Scratch per thread comes from the workspace; where it does not suffice for all threads fewer
// work. An image is computed by one thread, so results do not depend on the number of threads.
#include "kernels/image.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>

#include "kernels/check.h"
#include "kernels/image_loops.h"
#include "kernels/parallel.h"

namespace tunas::kernels {
namespace {

double support_of(Resample resample) { return resample == Resample::bilinear ? 1.0 : 2.0; }

/// Filter width in source pixels when `in` become `out`: the filter is stretched to shrink, never
/// squeezed to enlarge.
int window_size(Resample resample, int in, int out) {
  const double stretch = std::max(1.0, static_cast<double>(in) / out);
  return static_cast<int>(std::ceil(support_of(resample) * stretch)) * 2 + 1;
}

/// Pillow's: the pixels whose centres lie under the filter at one position of the frame's result.
PixelRange window_range(Resample resample, int position, const CropAxis& axis) {
  const double scale = static_cast<double>(axis.frame) / axis.size;
  const double support = support_of(resample) * std::max(1.0, scale);
  const double center = (position + 0.5) * scale;
  const int first = std::max(0, static_cast<int>(center - support + 0.5));
  return {first, std::min(axis.frame, static_cast<int>(center + support + 0.5)) - first};
}

/// The pixel at or before one position of the frame's result, and how far behind it that lies.
struct LegacyPlace {
  int floor;
  float fraction;
};
LegacyPlace legacy_place(int position, const CropAxis& axis) {
  const float scale = static_cast<float>(axis.frame) / static_cast<float>(axis.size);
  const float place = static_cast<float>(position) * scale;
  const int floor = static_cast<int>(place);
  return {floor, place - static_cast<float>(floor)};
}

}  // namespace

PixelRange source_range(Resample resample, const CropAxis& axis, int out) {
  const int last = axis.shows + out - 1;
  int first = 0, end = 0;
  if (resample == Resample::legacy_bicubic) {
    first = std::clamp(legacy_place(axis.shows, axis).floor - 1, 0, axis.frame - 1);
    end = std::min(legacy_place(last, axis).floor + 3, axis.frame);
  } else {
    const PixelRange range = window_range(resample, last, axis);
    first = window_range(resample, axis.shows, axis).first;
    end = range.first + range.count;
  }
  return {first, end - first};
}

Cost cost(const Image& args) {
  // The crops themselves may lie in the GPU's memory: they count as squares of their mean size.
  const int r = args.out.h - 2 * args.border;
  const double images = args.out.n, pixels = static_cast<double>(r) * r;
  const double crop_pixels = args.crop_pixels > 0 ? args.crop_pixels : images * pixels;
  const double side = std::sqrt(crop_pixels / std::max(images, 1.0));
  const bool legacy = args.resample == Resample::legacy_bicubic;
  const double taps = legacy ? 4 : window_size(args.resample, static_cast<int>(side), r);
  Cost total;
  total.flops = images * 6 * taps * (r * side + pixels);
  total.bytes_read = 3 * crop_pixels;
  total.bytes_written = bytes_of(args.out);
  return total;
}

namespace cpu {
namespace {

/// Hands out pieces of one thread's scratch memory, 64-byte aligned; without memory it only counts.
struct Scratch {
  char* base = nullptr;
  std::size_t used = 0;

  template <class T>
  std::span<T> take(std::size_t count) {
    T* start = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += (count * sizeof(T) + 63) / 64 * 64;
    return {start, count};
  }
};

struct Job {
  const std::uint8_t* pixels;  // first row of the crop
  int crop_w, stride;
  CropAxis y_axis, x_axis;
  int h, w;    // of the result
  float* out;  // where pixel x = 0 of row 0 goes
  long row_step;
  int pixel_step;  // 4, or -4 when flipped
  PixelScale scale;

  /// A row of the frame.
  const std::uint8_t* source(int row) const {
    return pixels + static_cast<long>(row - y_axis.begin) * stride;
  }
};

// ---- legacy bicubic

constexpr int kTableSize = 1024;

/// Weights at distance i/1024 (near) and 1 + i/1024 (far), computed in the operator's precision.
struct CubicTable {
  std::array<float, kTableSize + 1> near, far;
  CubicTable() {
    constexpr double a = -0.75;
    for (int i = 0; i <= kTableSize; ++i) {
      float x = static_cast<float>(i * 1.0 / kTableSize);
      near[i] = static_cast<float>(((a + 2) * x - (a + 3)) * x * x + 1);
      x += 1.0f;
      far[i] = static_cast<float>(((a * x - 5 * a) * x + 8 * a) * x - 4 * a);
    }
  }
};

/// Taps of one position of the result, in pixels of the frame.
CubicTaps cubic_taps(int position, const CropAxis& axis) {
  static const CubicTable table;
  const LegacyPlace place = legacy_place(axis.shows + position, axis);
  const long step = std::lrintf(place.fraction * kTableSize);
  CubicTaps taps;
  for (int k = 0; k < 4; ++k) taps.first[k] = std::clamp(place.floor - 1 + k, 0, axis.frame - 1);
  taps.weight[0] = table.far[step];
  taps.weight[1] = table.near[step];
  taps.weight[2] = table.near[kTableSize - step];
  taps.weight[3] = table.far[kTableSize - step];
  return taps;
}

struct LegacyScratch {
  std::span<float> row;
  std::span<CubicTaps> columns;
  LegacyScratch(Scratch& s, int crop_w, int w)
      : row(s.take<float>(3L * crop_w + 1)), columns(s.take<CubicTaps>(w)) {}
};

void resize_legacy(const Job& job, Scratch scratch) {
  const ImageLoops& loops = image_loops();
  LegacyScratch s(scratch, job.crop_w, job.w);
  for (int x = 0; x < job.w; ++x) {
    s.columns[x] = cubic_taps(x, job.x_axis);
    for (int& column : s.columns[x].first) column = 3 * (column - job.x_axis.begin);
  }
  s.row.back() = 0;  // the fourth lane of the last pixel
  for (int y = 0; y < job.h; ++y) {
    const CubicTaps taps = cubic_taps(y, job.y_axis);
    const std::uint8_t* rows[4];
    for (int k = 0; k < 4; ++k) rows[k] = job.source(taps.first[k]);
    loops.blend_rows(rows, taps.weight, 3 * job.crop_w, s.row.data());
    loops.cubic_row(s.row.data(), s.columns.data(), job.w, job.scale, job.out + y * job.row_step,
                    job.pixel_step);
  }
}

// ---- Pillow's antialiased filters

double filter(Resample resample, double x) {
  x = std::abs(x);
  if (resample == Resample::bilinear) return x < 1 ? 1 - x : 0;
  constexpr double a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/// The window of one position of the result, in pixels of the frame; its weights go to `weights`
/// and add up to 1.
Window make_window(Resample resample, int position, const CropAxis& axis, std::int32_t* weights) {
  const double scale = static_cast<double>(axis.frame) / axis.size;
  const double stretch = std::max(1.0, scale), center = (axis.shows + position + 0.5) * scale;
  const PixelRange range = window_range(resample, axis.shows + position, axis);
  const int first = range.first, last = first + range.count;
  const auto at = [&](int i) { return filter(resample, (i - center + 0.5) * (1.0 / stretch)); };
  double sum = 0;
  for (int i = first; i < last; ++i) sum += at(i);
  for (int i = first; i < last; ++i) {
    const double fixed = at(i) / sum * (1 << kWeightBits);
    weights[i - first] = static_cast<std::int32_t>(fixed + (fixed < 0 ? -0.5 : 0.5));
  }
  return {first, last - first, weights};
}

struct WindowScratch {
  int ring_rows, column_weights, row_weights;
  std::span<std::int32_t> weights, wide, sum;
  std::span<Window> columns;
  std::span<std::uint8_t> ring;  // [ring_rows][w][4]: source row r at slot r % ring_rows
  WindowScratch(Scratch& s, Resample resample, const CropAxis& y, const CropAxis& x, int crop_w,
                int w)
      : ring_rows(window_size(resample, y.frame, y.size)),
        column_weights(window_size(resample, x.frame, x.size)),
        row_weights(ring_rows),
        weights(s.take<std::int32_t>(static_cast<long>(w) * column_weights + row_weights)),
        wide(s.take<std::int32_t>(4L * crop_w)),
        sum(s.take<std::int32_t>(4L * w)),
        columns(s.take<Window>(w)),
        ring(s.take<std::uint8_t>(4L * ring_rows * w)) {}
};

void resize_windowed(const Job& job, Resample resample, Scratch scratch) {
  const ImageLoops& loops = image_loops();
  WindowScratch s(scratch, resample, job.y_axis, job.x_axis, job.crop_w, job.w);
  std::int32_t* weights = s.weights.data();
  for (int x = 0; x < job.w; ++x, weights += s.column_weights) {
    s.columns[x] = make_window(resample, x, job.x_axis, weights);
    s.columns[x].first -= job.x_axis.begin;
  }
  const auto ring_row = [&](int row) { return s.ring.data() + 4L * (row % s.ring_rows) * job.w; };
  int ready = 0;  // rows of the frame below this have been column-resampled
  for (int y = 0; y < job.h; ++y) {
    const Window window = make_window(resample, y, job.y_axis, weights);
    for (ready = std::max(ready, window.first); ready < window.first + window.count; ++ready) {
      loops.widen_row(job.source(ready), job.crop_w, s.wide.data());
      loops.window_row(s.wide.data(), s.columns.data(), job.w, ring_row(ready));
    }
    std::fill(s.sum.begin(), s.sum.end(), 0);
    for (int k = 0; k < window.count; ++k) {
      loops.add_row(ring_row(window.first + k), window.weight[k], 4 * job.w, s.sum.data());
    }
    loops.finish_row(s.sum.data(), job.w, job.scale, job.out + y * job.row_step, job.pixel_step);
  }
}

// ---- the batch

std::size_t scratch_bytes(const Image& args, int h, int w) {
  std::size_t most = 0;
  for (int n = 0; n < args.out.n; ++n) {
    const Crop& crop = args.crops[n];
    Scratch s;
    if (args.resample == Resample::legacy_bicubic) {
      LegacyScratch(s, crop.w, w);
    } else {
      WindowScratch(s, args.resample, crop.y.whole(crop.h, h), crop.x.whole(crop.w, w), crop.w, w);
    }
    most = std::max(most, s.used);
  }
  return most;
}

/// Whether `in` pixels from axis.begin on are all that `out` positions need.
bool holds(Resample resample, const CropAxis& axis, int in, int out) {
  if (axis.frame < 1 || axis.size < 1 || axis.shows < 0 || axis.begin < 0) return false;
  if (axis.size - axis.shows < out || axis.frame - axis.begin < in) return false;
  const PixelRange need = source_range(resample, axis, out);
  return need.first >= axis.begin && need.first + need.count <= axis.begin + in;
}

void check(const Image& args, int h, int w) {
  check_shape("image", "out", args.out, args.out.n, args.out.h, args.out.w, 4);
  require(args.border >= 0 && h > 0 && w > 0, "image: out is ", shape_of(args.out),
          ", which a border of ", args.border, " leaves nothing of");
  require(args.out.n == 0 || (args.pixels && args.crops), "image: pixels or crops have no memory");
  for (float std : args.normalization.std)
    require(std > 0, "image: std is ", std, "; it must be positive");
  for (int n = 0; n < args.out.n; ++n) {
    const Crop& crop = args.crops[n];
    require(crop.h > 0 && crop.w > 0 && crop.stride >= 3 * crop.w, "image: crop ", n, " is ",
            crop.h, "x", crop.w, " with rows of ", crop.stride, " bytes");
    require(holds(args.resample, crop.y.whole(crop.h, h), crop.h, h) &&
                holds(args.resample, crop.x.whole(crop.w, w), crop.w, w),
            "image: crop ", n, " of ", crop.h, "x", crop.w,
            " pixels is not the part of its frame that the result needs");
  }
}

Job make_job(const Image& args, int n, int h, int w) {
  const Crop& crop = args.crops[n];
  const long row = 4L * args.out.w;
  const int x = args.border + (crop.flip ? w - 1 : 0);
  Job job = {args.pixels + crop.offset,
             crop.w,
             crop.stride,
             crop.y.whole(crop.h, h),
             crop.x.whole(crop.w, w),
             h,
             w,
             args.out.f32() + n * row * args.out.h + args.border * row + 4L * x,
             row,
             crop.flip ? -4 : 4,
             {}};
  for (int c = 0; c < 3; ++c) {
    job.scale.scale[c] = 1 / args.normalization.std[c];
    job.scale.shift[c] = -args.normalization.mean[c] / args.normalization.std[c];
  }
  return job;
}

void clear_border(const Image& args, int n) {
  const long row = 4L * args.out.w, edge = 4L * args.border;
  float* image = args.out.f32() + n * row * args.out.h;
  std::fill_n(image, row * args.border, 0.0f);
  for (int y = args.border; y < args.out.h - args.border; ++y) {
    std::fill_n(image + y * row, edge, 0.0f);
    std::fill_n(image + (y + 1) * row - edge, edge, 0.0f);
  }
  std::fill_n(image + row * (args.out.h - args.border), row * args.border, 0.0f);
}

}  // namespace

void image(CpuContext& context, const Image& args) {
  const int h = args.out.h - 2 * args.border, w = args.out.w - 2 * args.border;
  check(args, h, w);
  const std::size_t need = std::max<std::size_t>(1, scratch_bytes(args, h, w));
  const std::size_t fit = context.workspace_bytes / need;
  if (fit == 0) {
    fail(Exit::memory, "image: a crop needs ", need, " bytes of workspace, there are ",
         context.workspace_bytes);
  }
  CpuContext alone = context;
  alone.workers = nullptr;
  const bool for_all = fit >= static_cast<std::size_t>(context.threads);
  parallel(for_all ? context : alone, args.out.n, [&](long image, int slot) {
    const Scratch scratch{context.workspace + static_cast<std::size_t>(slot) * need, 0};
    const int n = static_cast<int>(image);
    clear_border(args, n);
    const Job job = make_job(args, n, h, w);
    if (args.resample == Resample::legacy_bicubic) {
      resize_legacy(job, scratch);
    } else {
      resize_windowed(job, args.resample, scratch);
    }
  });
}

}  // namespace cpu
}  // namespace tunas::kernels

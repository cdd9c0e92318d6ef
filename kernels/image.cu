// The image kernel on the GPU (image.h); the formulas are those of image.cpp.
//
//   legacy_bicubic   a thread walks down a strip of rows in one column of the result and keeps the
//                    four source rows it stands between, already resampled to its column: a row is
//                    resampled once a strip where the image grows, four times a row of the result
//                    where it shrinks a lot. Columns before rows where the CPU has rows first:
//                    equal but for the rounding of floats.
//   bicubic/bilinear a block makes a tile of 32 x 32 pixels from chunks of 32 source rows. A chunk
//                    is resampled to the tile's columns, rounded to bytes and added, with the
//                    weights of the tile's rows, to integer sums in registers. Sums of integers
//                    may be cut anywhere: 32 taps at a time, whatever the size of a window.
//
// Positions and weights are computed on the device, in the CPU's order of operations: a crop's size
// is known there alone. The legacy weights are exact. Of the fixed-point ones nvcc's fused
// multiply-adds may turn a tie within 1e-9 of a half, so a byte may differ from the CPU's by one
// step where it is itself within 1e-4 of a half; in all other cases the bytes are equal.
//
// Shared memory is 15 KiB whatever the crop; the workspace is not used. Floor: see image.h; source
// bytes beyond it are those of rows and columns that neighbouring tiles share, from the caches.
#include "kernels/image.h"

#include "kernels/pack.cuh"

namespace tunas::kernels::cuda {
namespace {

struct Job {
  Image args;
  int h, w;  // of the result, without its border
  float scale[3], shift[3];
};

__device__ inline int at_least(int a, int b) { return a > b ? a : b; }
__device__ inline int at_most(int a, int b) { return a < b ? a : b; }
__device__ inline int clamped(int a, int low, int high) { return at_most(at_least(a, low), high); }

/// The place along an axis of `size` pixels of the result that pixel `at` of out shows, or -1.
__device__ inline int place_of(int at, int border, int size) {
  const int place = at - border;
  return place < size ? at_least(place, -1) : -1;
}

/// Writes pixel (y, x) of out n: the colour normalised, or zeros in the border.
template <class T>
__device__ void put_pixel(const Job& job, int n, int y, int x, bool inside, const float (&rgb)[3]) {
  const Tensor& out = job.args.out;
  float v[4] = {};
#pragma unroll
  for (int c = 0; c < 3; ++c) v[c] = inside ? rgb[c] * job.scale[c] + job.shift[c] : 0.0f;
  store(static_cast<T*>(out.data) + ((static_cast<long>(n) * out.h + y) * out.w + x) * 4, v);
}

// ---- legacy bicubic

constexpr int kStrip = 16, kLegacyThreads = 128, kTableSize = 1024;

/// Taps at pixels first .. first + 3, each clamped to the frame.
struct CubicTaps {
  int first;
  float weight[4];
};

/// Weights at distance i/1024 and 1 + i/1024. Every step is exact in double.
__device__ inline float near_weight(int i) {
  constexpr double a = -0.75;
  const double x = i * (1.0 / kTableSize);
  return static_cast<float>(((a + 2) * x - (a + 3)) * x * x + 1);
}
__device__ inline float far_weight(int i) {
  constexpr double a = -0.75;
  const double x = 1 + i * (1.0 / kTableSize);
  return static_cast<float>(((a * x - 5 * a) * x + 8 * a) * x - 4 * a);
}

/// Of one position of the result, in pixels of the frame.
__device__ inline CubicTaps cubic_taps(int position, const CropAxis& axis) {
  const float scale = static_cast<float>(axis.frame) / static_cast<float>(axis.size);
  // Rounded once, as a product of floats, but out of reach of a fused multiply-add.
  const float place = static_cast<float>(static_cast<double>(axis.shows + position) * scale);
  const int floor = static_cast<int>(place);
  const int step = static_cast<int>(lrintf((place - static_cast<float>(floor)) * kTableSize));
  return {floor - 1,
          {far_weight(step), near_weight(step), near_weight(kTableSize - step),
           far_weight(kTableSize - step)}};
}

template <class T>
__global__ void __launch_bounds__(kLegacyThreads) legacy_kernel(Job job) {
  __shared__ CubicTaps rows[kStrip];
  const Image& a = job.args;
  const int n = static_cast<int>(blockIdx.y), y0 = static_cast<int>(blockIdx.x) * kStrip;
  const Crop crop = a.crops[n];
  const CropAxis y_axis = crop.y.whole(crop.h, job.h), x_axis = crop.x.whole(crop.w, job.w);
  if (threadIdx.x < kStrip) {
    const int y = place_of(y0 + static_cast<int>(threadIdx.x), a.border, job.h);
    if (y >= 0) rows[threadIdx.x] = cubic_taps(y, y_axis);
  }
  __syncthreads();
  for (int x = static_cast<int>(threadIdx.x); x < a.out.w; x += kLegacyThreads) {
    const int place = place_of(x, a.border, job.w);
    const CubicTaps column = cubic_taps(crop.flip ? job.w - 1 - place : at_least(place, 0), x_axis);
    int at[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      at[k] = 3 * (clamped(column.first + k, 0, x_axis.frame - 1) - x_axis.begin);
    }
    float held[4][3] = {};  // source rows next - 4 .. next - 1 at this column
    int next = -4;
    for (int r = 0; r < kStrip && y0 + r < a.out.h; ++r) {
      const bool inside = place >= 0 && place_of(y0 + r, a.border, job.h) >= 0;
      float rgb[3] = {};
      if (inside) {
        const CubicTaps taps = rows[r];
        for (next = at_least(next, taps.first); next < taps.first + 4; ++next) {
          const int there = clamped(next, 0, y_axis.frame - 1) - y_axis.begin;
          const std::uint8_t* row = a.pixels + crop.offset + static_cast<long>(there) * crop.stride;
#pragma unroll
          for (int c = 0; c < 3; ++c) {
            held[0][c] = held[1][c];
            held[1][c] = held[2][c];
            held[2][c] = held[3][c];
            held[3][c] = 0;
#pragma unroll
            for (int k = 0; k < 4; ++k) {
              held[3][c] += column.weight[k] * static_cast<float>(row[at[k] + c]);
            }
          }
        }
#pragma unroll
        for (int k = 0; k < 4; ++k) {
#pragma unroll
          for (int c = 0; c < 3; ++c) rgb[c] += taps.weight[k] * held[k][c];
        }
      }
      put_pixel<T>(job, n, y0 + r, x, inside, rgb);
    }
  }
}

// ---- Pillow's antialiased filters

constexpr int kTile = 32, kChunk = 32, kTaps = 32, kTileThreads = 256;
constexpr int kWarps = kTileThreads / 32, kEach = kTile / kWarps;  // rows of a thread
constexpr int kWeightBits = 32 - 8 - 2;  // fixed point: 8 bits of value, 2 of headroom

__device__ inline double support_of(Resample kind) { return kind == Resample::bilinear ? 1 : 2; }

__device__ inline double filter(Resample kind, double x) {
  x = fabs(x);
  if (kind == Resample::bilinear) return x < 1 ? 1 - x : 0;
  constexpr double a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/// The pixels [first, first + count) of one position of the result; none in the border. `center` is
/// in pixels of the frame, `first` of the crop, which begins at pixel `begin` of the frame.
struct Window {
  int first, count, begin;
  double center, shrink, sum;

  __device__ double raw(Resample kind, int i) const {
    return filter(kind, (begin + first + i - center + 0.5) * shrink);
  }
  /// In fixed point; all of a window add up to 1.
  __device__ std::int32_t weight(Resample kind, int i) const {
    const double fixed = raw(kind, i) / sum * (1 << kWeightBits);
    return static_cast<std::int32_t>(fixed + (fixed < 0 ? -0.5 : 0.5));
  }
};

__device__ inline Window make_window(Resample kind, int position, const CropAxis& axis) {
  if (position < 0) return {};
  const double scale = static_cast<double>(axis.frame) / axis.size, stretch = scale > 1 ? scale : 1;
  const double support = support_of(kind) * stretch;
  Window window = {0, 0, axis.begin, (axis.shows + position + 0.5) * scale, 1.0 / stretch, 0};
  const int first = at_least(0, static_cast<int>(window.center - support + 0.5));
  window.first = first - axis.begin;
  window.count = at_most(axis.frame, static_cast<int>(window.center + support + 0.5)) - first;
  for (int i = 0; i < window.count; ++i) window.sum += window.raw(kind, i);
  return window;
}

/// A sum that began at half a step.
__device__ inline unsigned to_byte(std::int32_t sum) {
  return static_cast<unsigned>(clamped(sum >> kWeightBits, 0, 255));
}
constexpr std::int32_t kHalf = 1 << (kWeightBits - 1);

struct TileShared {
  Window columns[kTile], rows[kTile];
  std::int32_t column_weights[kTaps][kTile], row_weights[kTile][kChunk];
  unsigned bytes[kChunk][kTile];  // source rows at the tile's columns, one byte a colour
  int taps;                       // of the widest column
};

/// The weights of taps k0 .. k0 + kTaps of every column. All threads must call it.
__device__ inline void fill_column_weights(TileShared& s, Resample kind, int k0) {
  for (int e = static_cast<int>(threadIdx.x); e < kTaps * kTile; e += kTileThreads) {
    const Window& column = s.columns[e % kTile];
    const int k = e / kTile;
    if (k0 + k < column.count) s.column_weights[k][e % kTile] = column.weight(kind, k0 + k);
  }
}

/// Leaves source rows r0 .. r0 + kChunk (those beyond `end` repeat the last) in s.bytes. All
/// threads must call it.
__device__ inline void resample_columns(const Image& a, const Crop& crop, int r0, int end,
                                        TileShared& s) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int count = s.columns[lane].count;
  const std::uint8_t* from[kEach];
  std::int32_t sum[kEach][3];
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const int row = at_most(r0 + warp + e * kWarps, end - 1);
    from[e] =
        a.pixels + crop.offset + static_cast<long>(row) * crop.stride + 3L * s.columns[lane].first;
    sum[e][0] = sum[e][1] = sum[e][2] = kHalf;
  }
  for (int k0 = 0; k0 < s.taps; k0 += kTaps) {
    if (s.taps > kTaps) {  // they do not fit at once
      __syncthreads();
      fill_column_weights(s, a.resample, k0);
      __syncthreads();
    }
    for (int k = 0; k < kTaps && k0 + k < count; ++k) {
      const std::int32_t weight = s.column_weights[k][lane];
#pragma unroll
      for (int e = 0; e < kEach; ++e) {
#pragma unroll
        for (int c = 0; c < 3; ++c) sum[e][c] += weight * from[e][3 * (k0 + k) + c];
      }
    }
  }
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    s.bytes[warp + e * kWarps][lane] =
        to_byte(sum[e][0]) | to_byte(sum[e][1]) << 8 | to_byte(sum[e][2]) << 16;
  }
}

template <class T>
__global__ void __launch_bounds__(kTileThreads) window_kernel(Job job) {
  __shared__ TileShared s;
  const Image& a = job.args;
  const int n = static_cast<int>(blockIdx.z), t = static_cast<int>(threadIdx.x);
  const int x0 = static_cast<int>(blockIdx.x) * kTile, y0 = static_cast<int>(blockIdx.y) * kTile;
  const int lane = t % 32, warp = t / 32;
  const Crop& crop = a.crops[n];
  if (t < 2 * kTile) {
    const bool column = t < kTile;
    const int x = place_of(x0 + t, a.border, job.w);
    const int y = place_of(y0 + t - kTile, a.border, job.h);
    const int position = !column ? y : x >= 0 && crop.flip ? job.w - 1 - x : x;
    const CropAxis axis = column ? crop.x.whole(crop.w, job.w) : crop.y.whole(crop.h, job.h);
    (column ? s.columns[t] : s.rows[t - kTile]) = make_window(a.resample, position, axis);
  }
  __syncthreads();
  if (t == 0) {
    s.taps = 0;
    for (const Window& column : s.columns) s.taps = at_least(s.taps, column.count);
  }
  __syncthreads();
  // The rows of the tile that are no border, and the source rows they need.
  const int top = clamped(a.border - y0, 0, kTile);
  const int bottom = clamped(a.border + job.h - y0, 0, kTile);
  const int begin = top < bottom ? s.rows[top].first : 0;
  const int end = top < bottom ? s.rows[bottom - 1].first + s.rows[bottom - 1].count : 0;
  fill_column_weights(s, a.resample, 0);
  std::int32_t sum[kEach][3];
#pragma unroll
  for (int e = 0; e < kEach; ++e) sum[e][0] = sum[e][1] = sum[e][2] = kHalf;
  for (int r0 = begin; r0 < end; r0 += kChunk) {
    __syncthreads();
    resample_columns(a, crop, r0, end, s);
    for (int e = t; e < kTile * kChunk; e += kTileThreads) {
      const Window& row = s.rows[e / kChunk];
      const int i = r0 + e % kChunk - row.first;
      if (i >= 0 && i < row.count)
        s.row_weights[e / kChunk][e % kChunk] = row.weight(a.resample, i);
    }
    __syncthreads();
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const Window& row = s.rows[warp + e * kWarps];
      const int last = at_most(row.first + row.count - r0, kChunk);
      for (int r = at_least(row.first - r0, 0); r < last; ++r) {
        const std::int32_t weight = s.row_weights[warp + e * kWarps][r];
        const unsigned bytes = s.bytes[r][lane];
#pragma unroll
        for (int c = 0; c < 3; ++c) {
          sum[e][c] += weight * static_cast<std::int32_t>(bytes >> 8 * c & 255);
        }
      }
    }
  }
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const int x = x0 + lane, y = y0 + warp + e * kWarps;
    if (x >= a.out.w || y >= a.out.h) continue;
    float rgb[3];
#pragma unroll
    for (int c = 0; c < 3; ++c) rgb[c] = static_cast<float>(to_byte(sum[e][c]));
    const bool inside = s.columns[lane].count > 0 && s.rows[warp + e * kWarps].count > 0;
    put_pixel<T>(job, n, y, x, inside, rgb);
  }
}

}  // namespace

void image(CudaContext& context, const Image& args) {
  const Tensor& out = args.out;
  Job job = {args, out.h - 2 * args.border, out.w - 2 * args.border, {}, {}};
  require(out.c == 4 && args.border >= 0 && job.h > 0 && job.w > 0, "image: out is [", out.n, ',',
          out.h, ',', out.w, ',', out.c, "], which a border of ", args.border,
          " leaves nothing of; it has four channels");
  for (int c = 0; c < 3; ++c) {
    const float mean = args.normalization.mean[c], std = args.normalization.std[c];
    require(std > 0, "image: std is ", std, "; it must be positive");
    job.scale[c] = 1 / std;
    job.shift[c] = -mean / std;
  }
  if (out.n == 0) return;
  with_type(out.type, [&](auto t) {
    if (args.resample == Resample::legacy_bicubic) {
      launch(context, "image", legacy_kernel<decltype(t)>,
             {dim3(ceil_div(out.h, kStrip), out.n), dim3(kLegacyThreads)}, job);
    } else {
      launch(context, "image", window_kernel<decltype(t)>,
             {dim3(ceil_div(out.w, kTile), ceil_div(out.h, kTile), out.n), dim3(kTileThreads)},
             job);
    }
  });
}

}  // namespace tunas::kernels::cuda

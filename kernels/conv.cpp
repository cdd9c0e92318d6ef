// Dense convolution of the stem on the CPU: formulas in conv.h.
//
// A tile of output pixels gathers its windows into a matrix [pixels][k*k*4], which lies in L2 and
// is multiplied as in the pointwise convolution. The gathered rows are padded with zeros to a
// multiple of 8, the width the transposed product wants.
#include "kernels/conv.h"

#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/gemm.h"
#include "kernels/parallel.h"
#include "kernels/pointwise_tiles.h"

namespace tunas::kernels {
namespace {

constexpr int kStored = 4, kColours = 3;  // channels of an image, and those that are not padding

// The fourth channel is no work: multiply-adds and parameters are counted without padding.
double weights(const Filter& w) { return static_cast<double>(w.out.now) * w.k * w.k * kColours; }

}  // namespace

Cost cost(const ConvForward& args) {
  const double w = weights(args.w);
  return {2 * w * static_cast<double>(args.y.rows()), bytes_of(args.image) + 4 * w,
          bytes_of(args.y)};
}

Cost cost(const ConvBackward& args) {
  const double w = weights(args.w);
  const double y = args.dy.ca ? bytes_of(args.dy.y) : 0;
  return {2 * w * static_cast<double>(args.dy.dz.rows()),
          bytes_of(args.image) + bytes_of(args.dy.dz) + y + 4 * w, 4 * w};
}

namespace cpu {
namespace {

constexpr long kChunks = 16;
constexpr int kForwardRows = 512, kBackwardRows = 128;  // of a tile

struct Windows {
  const Tensor& image;
  const Tensor& y;
  int k, stride, top, left;

  int taps() const { return k * k * kStored; }
  int columns() const { return round_up_8(taps()); }

  // Pixels [begin, begin + rows) of y as rows of `columns()` floats.
  void gather(long begin, int rows, float* out) const {
    if (k == 3) return gather_as<3>(begin, rows, out);
    if (k == 5) return gather_as<5>(begin, rows, out);
    gather_as<0>(begin, rows, out);
  }

 private:
  // K is k where it is known to the compiler: copies of a fixed size are a few instructions.
  template <int K>
  void gather_as(long begin, int rows, float* out) const {
    const int size = K ? K : k, run = size * kStored, end = size * run;
    const int width = round_up_8(end);
    const long line = static_cast<long>(image.w) * kStored;
    int q = static_cast<int>(begin % y.w), p = static_cast<int>(begin / y.w % y.h);
    long n = begin / y.w / y.h;
    for (int r = 0; r < rows; ++r, out += width) {
      const float* in = image.f32() + pixel(n, p * stride + top, q * stride + left);
      for (int i = 0; i < size; ++i) {
        std::memcpy(out + i * run, in + i * line, static_cast<std::size_t>(run) * sizeof(float));
      }
      for (int i = end; i < width; ++i) out[i] = 0;
      if (++q < y.w) continue;
      q = 0;
      if (++p < y.h) continue;
      p = 0;
      ++n;
    }
  }
  long pixel(long n, int h, int w) const { return ((n * image.h + h) * image.w + w) * kStored; }
};

void check(const char* kernel, const Windows& windows, const Filter& w) {
  const Tensor &image = windows.image, &y = windows.y;
  check_shape(kernel, "image", image, image.n, image.h, image.w, kStored);
  require(w.data && w.type == DType::f32 && w.in == Width{kStored, kStored} && w.k >= 1, kernel,
          ": w must be an fp32 filter with 4 input channels");
  require(0 < w.out.now && w.out.now <= w.out.max && w.out.now % 8 == 0, kernel, ": w uses ",
          w.out.now, " of ", w.out.max, " output channels; use a multiple of 8");
  check_shape(kernel, "y", y, image.n, y.h, y.w, w.out.now);
  require(y.rows() > 0 && windows.stride >= 1 && windows.top >= 0 && windows.left >= 0 &&
              (y.h - 1) * windows.stride + windows.top + w.k <= image.h &&
              (y.w - 1) * windows.stride + windows.left + w.k <= image.w,
          kernel, ": windows of y ", shape_of(y), " leave the image ", shape_of(image),
          "; store it with a wider border");
}

}  // namespace

void conv(CpuContext& context, const ConvForward& args) {
  const Windows windows{args.image, args.y, args.w.k, args.stride, args.top, args.left};
  check("conv", windows, args.w);
  require(!args.moments.mean == !args.moments.variance, "conv: mean and variance of y go together");
  const int k = windows.taps(), columns = windows.columns(), n = args.w.out.now;
  const Tiles tiles(args.y, kForwardRows, false);
  const long scratch = whole_lines(long{kStripRows} * columns);
  Workspace workspace(context, "conv");
  float* const packed = workspace.take(static_cast<long>(k) * n);
  float* const partial = args.moments.mean ? workspace.take(tiles.count() * 3 * n) : nullptr;
  float* const scratches = workspace.take(scratch * context.threads);

  const GemmLoops& gemm = cpu::gemm(context);
  const PointwiseLoops& loops = pointwise_loops();
  const Pack pack{args.w.f32(), 1, k, k, n, packed};
  for (int p = 0; p < gemm.panels.count(n); ++p) gemm.pack(pack, p);
  parallel(context, tiles.count(), [&](long t, int slot) {
    float* const u = scratches + slot * scratch;
    const Tiles::Tile tile = tiles[t];
    Multiply product{0, n, k, u, columns, packed, nullptr, nullptr, n, {}, {}};
    float* moments = partial ? partial + t * 3 * n : nullptr;
    if (moments) product.sums = {true, moments, moments + n, moments + 2 * n};
    for (int row = 0; row < tile.rows; row += kStripRows, product.sums.start = false) {
      const long begin = tile.begin + row;
      product.m = std::min(kStripRows, tile.rows - row);
      product.c = args.y.f32() + begin * n;
      product.ahead[0] = rows_ahead(args.y, begin + kStripRows, kStripRows);
      windows.gather(begin, product.m, u);
      gemm.multiply(product);
    }
    if (moments) loops.finish_moments({tile.rows, n, moments, moments + n, moments + 2 * n});
  });
  if (partial) {
    parallel(context, (n + 15) / 16, [&](long i, int) {
      const int begin = static_cast<int>(16 * i);
      merge_moments(tiles, partial, n, begin, std::min(begin + 16, n), args.moments);
    });
  }
}

void conv_backward(CpuContext& context, const ConvBackward& args) {
  const Tensor& dz = args.dy.dz;
  const Windows windows{args.image, dz, args.w.k, args.stride, args.top, args.left};
  check("conv_backward", windows, args.w);
  require(!args.dy.deferred.scale, "conv_backward takes no deferred gradient");
  if (args.dy.ca) {
    check_same_shape("conv_backward", "y", args.dy.y, dz);
    require(args.dy.cb && args.dy.cc, "conv_backward: ca, cb and cc go together");
  }
  require(args.dw && args.dw.type == DType::f32 && args.dw.out == args.w.out &&
              args.dw.in == args.w.in && args.dw.k == args.w.k,
          "conv_backward: dw must have the shape and the type of w");
  const int columns = windows.columns(), n = args.w.out.now;
  const Tiles tiles(dz, kBackwardRows, false);
  const int chunks = static_cast<int>(std::min(kChunks, tiles.count()));
  const long gathered = whole_lines(static_cast<long>(tiles.rows) * columns);
  const long scratch = whole_lines(gathered + static_cast<long>(tiles.rows) * n);
  const long weights = whole_lines(static_cast<long>(n) * columns);
  Workspace workspace(context, "conv_backward");
  float* const partial = workspace.take(chunks * weights);
  float* const scratches = workspace.take(scratch * context.threads);
  const GemmLoops& gemm = cpu::gemm(context);
  const PointwiseLoops& loops = pointwise_loops();
  parallel(context, chunks, [&](long chunk, int slot) {
    float* const u = scratches + slot * scratch;
    const long begin = part_begin(tiles.count(), chunk, chunks);
    const long end = part_begin(tiles.count(), chunk + 1, chunks);
    for (long t = begin; t < end; ++t) {
      const Tiles::Tile tile = tiles[t];
      const float* dy = dz.f32() + tile.begin * n;
      if (const Incoming& in = args.dy; in.ca) {
        const float* y = in.y.f32() + tile.begin * n;
        loops.load_incoming({tile.rows, n, dy, y, in.ca, in.cb, in.cc, u + gathered});
        dy = u + gathered;
      }
      windows.gather(tile.begin, tile.rows, u);
      const Write how = t == begin ? Write::overwrite : Write::accumulate;
      MultiplyTransposed product{
          n, columns, tile.rows, dy, n, u, columns, how, partial + chunk * weights, columns, {}};
      product.ahead[0] = rows_ahead(dz, tile.begin + tile.rows, tile.rows);
      if (args.dy.ca) {
        product.ahead[1] = rows_ahead(args.dy.y, tile.begin + tile.rows, tile.rows);
      }
      gemm.multiply_transposed(product);
    }
  });
  parallel(context, n, [&](long o, int) {
    const long row = o * windows.taps();
    add_weight_grad({chunks, weights, partial + o * columns, windows.taps(), args.decay,
                     args.w.f32() + row, args.dw.f32() + row});
  });
}

}  // namespace cpu
}  // namespace tunas::kernels

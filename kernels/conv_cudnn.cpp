// The stem's convolution (conv.h) through cuDNN: a valid convolution over a window into the stored
// images, or over a copy of it. The filter [out][k][k][4] is the library's layout as it is; its
// gradient comes dense, chunk by chunk, and is added with the decay.
#include "kernels/conv.h"

#include <algorithm>

#include "kernels/library.h"
#include "kernels/window_cudnn.h"

namespace tunas::kernels::cuda::library {
namespace {

static_assert(Cudnn::kWorkspaceBytes <= LibrarySpace::kLibraryBytes);

/// Of either direction.
struct Stem {
  const Tensor& image;
  const Tensor& y;  // or its gradient
  const Filter& w;
  int stride, top, left;

  std::size_t pixel() const { return image.c * size_of(image.type); }

  ConvShape shape(Pass pass) const {
    ConvShape s;
    s.pass = pass;
    s.type = s.result = image.type;
    s.h = (y.h - 1L) * stride + w.k;
    s.w = (y.w - 1L) * stride + w.k;
    s.c = image.c;
    s.row = static_cast<long>(image.w) * image.c;
    s.image = image.h * s.row;
    s.out = y.c;
    s.p = y.h;
    s.q = y.w;
    s.k = w.k;
    s.stride = stride;
    s.alignment = std::min<long>(static_cast<long>(pixel()), 16);
    return s;
  }

  /// The first tap's pixel of image `first`, or a copy of the windows at `to`.
  void* x(const CudaContext& context, const WindowChoice& choice, int first, int count,
          void* to) const {
    const long skip = static_cast<long>(top) * image.w + left;
    void* from = static_cast<char*>(slice(image, first, count).data) + skip * pixel();
    if (!choice.copied) return from;
    const int h = static_cast<int>(choice.shape.h), w_now = static_cast<int>(choice.shape.w);
    copy_window(context, {from, image.h, image.w}, {to, h, w_now}, count, h, w_now, pixel());
    return to;
  }

  bool fits() const {
    return y.type == image.type && w.type == image.type && y.c == w.out.now && image.c == 4 &&
           w.in.max == 4 && aligned_data(image.data) && aligned_data(y.data) &&
           aligned_data(w.data) && image.h >= (y.h - 1) * stride + w.k + top &&
           image.w >= (y.w - 1) * stride + w.k + left;
  }
};

bool forward(const CudaContext& context, const ConvForward& args) {
  const Stem stem{args.image, args.y, args.w, args.stride, args.top, args.left};
  const LibrarySpace space(context);
  if (!stem.fits() || space.chunk_bytes == 0) return false;
  Cudnn& dnn = cudnn(context);
  const auto choice = choose(dnn, stem.shape(Pass::forward), args.image.n, 0, space.chunk_bytes);
  if (!choice) return false;
  const ImageChunks& chunks = choice->chunks;
  for (int i = 0; i < chunks.count; ++i) {
    const int first = chunks.first(i), count = chunks.size(i);
    void* x = stem.x(space.own, *choice, first, count, space.chunks);
    dnn.run(context, *choice->plans.of(chunks, i),
            {x, args.w.data, slice(args.y, first, count).data}, space.library);
  }
  finish_output(space.own, args.y, args.y.c, nullptr, args.moments);
  return true;
}

bool backward(const CudaContext& context, const ConvBackward& args) {
  const Tensor& dz = args.dy.dz;
  const Stem stem{args.image, dz, args.w, args.stride, args.top, args.left};
  const LibrarySpace space(context);
  const std::size_t taps = static_cast<std::size_t>(args.w.k) * args.w.k * 4;
  const std::size_t filter_bytes = aligned(dz.c * taps * sizeof(float));
  if (!stem.fits() || args.dw.type != DType::f32 || space.chunk_bytes <= filter_bytes) return false;
  const std::size_t dy_bytes = aligned(image_bytes(dz, !plain(args.dy)));
  Cudnn& dnn = cudnn(context);
  const auto choice =
      choose(dnn, stem.shape(Pass::wgrad), dz.n, dy_bytes, space.chunk_bytes - filter_bytes);
  if (!choice) return false;
  const ImageChunks& chunks = choice->chunks;
  char* dy_memory = space.chunks + filter_bytes;
  for (int i = 0; i < chunks.count; ++i) {
    const int first = chunks.first(i), count = chunks.size(i);
    const Incoming incoming = slice(args.dy, first, count);
    void* dy = incoming.dz.data;
    if (!plain(incoming)) {
      write_incoming(space.own, incoming, dy_memory);
      dy = dy_memory;
    }
    void* x = stem.x(space.own, *choice, first, count, dy_memory + chunks.each * dy_bytes);
    dnn.run(context, *choice->plans.of(chunks, i), {x, space.chunks, dy}, space.library);
    FilterSum sum;
    sum.partial = space.chunks;
    sum.type = choice->shape.result;
    sum.rows = dz.c;
    sum.width = sum.row_step = sum.ld = static_cast<int>(taps);
    sum.out = args.dw.f32();
    if (i + 1 == chunks.count && args.decay != 0) {
      sum.w = args.w.data;
      sum.w_type = args.w.type;
      sum.decay = args.decay;
    }
    add_filter(space.own, sum);
  }
  return true;
}

}  // namespace

bool conv(const CudaContext& context, const ConvForward& args) {
  return wanted(context) &&
         count(context, forward(context, args), "conv", cudnn(context).refusal());
}

bool conv_backward(const CudaContext& context, const ConvBackward& args) {
  return wanted(context) &&
         count(context, backward(context, args), "conv backward", cudnn(context).refusal());
}

}  // namespace tunas::kernels::cuda::library

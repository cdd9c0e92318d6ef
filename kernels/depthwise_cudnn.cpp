// Depthwise (depthwise.h) through cuDNN: a convolution with as many groups as channels. The filter
// prefix is copied to the library's layout [c][k][k] first, its gradient comes in the same layout
// and is added with the decay. u, dy and, where dx accumulates or has no place, du are written out
// in chunks of images. y and du are rounded to the type of the network before moments and act' are
// taken of them.
#include "kernels/depthwise.h"

#include <algorithm>

#include "kernels/library.h"
#include "kernels/window_cudnn.h"

namespace tunas::kernels::cuda::library {
namespace {

static_assert(Cudnn::kWorkspaceBytes <= LibrarySpace::kLibraryBytes);

/// Of either direction.
struct Layer {
  const Tensor& x;
  const Tensor& y;  // or its gradient
  const Filter& w;
  int stride, top, left;

  std::size_t pixel() const { return x.c * size_of(x.type); }
  /// Of the dense filter or its gradient, whatever the type.
  std::size_t filter_bytes() const { return aligned(sizeof(float) * w.k * w.k * x.c); }

  ConvShape shape(Pass pass) const {
    ConvShape s;
    s.pass = pass;
    s.type = s.result = x.type;
    s.h = x.h;
    s.w = x.w;
    s.c = s.out = s.groups = x.c;
    s.pack();
    s.p = y.h;
    s.q = y.w;
    s.k = w.k;
    s.stride = stride;
    s.top = top;
    s.left = left;
    return s;
  }

  bool fits() const {
    return y.type == x.type && w.type == x.type && y.c == x.c && w.in.now == x.c &&
           aligned_data(x.data) && aligned_data(y.data);
  }

  /// Pixels of x inside a window, and their place there.
  int rows(const ConvShape& s) const { return static_cast<int>(std::min<long>(x.h, s.h - top)); }
  int columns(const ConvShape& s) const {
    return static_cast<int>(std::min<long>(x.w, s.w - left));
  }
  Images window(const ConvShape& s, void* windows) const {
    return {static_cast<char*>(windows) + (top * s.w + left) * pixel(), static_cast<int>(s.h),
            static_cast<int>(s.w)};
  }

  /// What the library reads as x: u itself, or windows that u is copied to, border zero.
  void* input(const CudaContext& context, const WindowChoice& choice, int count, void* u,
              void* windows) const {
    if (!choice.copied) return u;
    const ConvShape& s = choice.shape;
    clear(context, windows, count * choice.window_bytes());
    copy_window(context, {u, x.h, x.w}, window(s, windows), count, rows(s), columns(s), pixel());
    return windows;
  }
  /// The way back, of what the library wrote as dx.
  void output(const CudaContext& context, const WindowChoice& choice, int count, void* du,
              void* windows) const {
    if (!choice.copied) return;
    const ConvShape& s = choice.shape;
    clear(context, du, count * image_bytes(x));  // pixels that no window holds
    copy_window(context, window(s, windows), {du, x.h, x.w}, count, rows(s), columns(s), pixel());
  }
};

/// dy of a chunk, written to `to` unless it lies in memory as it is.
void* incoming(const CudaContext& context, const Incoming& dy, void* to) {
  if (plain(dy)) return dy.dz.data;
  write_incoming(context, dy, to);
  return to;
}

/// u of a chunk, likewise.
void* source(const CudaContext& context, const Source& x, void* to) {
  if (plain(x)) return x.y.data;
  write_source(context, x, to);
  return to;
}

bool forward(const CudaContext& context, const DepthwiseForward& args) {
  const Layer layer{args.x.y, args.y, args.w, args.stride, args.top, args.left};
  const LibrarySpace space(context);
  if (!layer.fits() || args.x.gate || args.expansion.w) return false;
  if (space.chunk_bytes <= layer.filter_bytes()) return false;
  const std::size_t u_bytes = image_bytes(args.x.y, !plain(args.x));
  Cudnn& dnn = cudnn(context);
  const auto choice = choose(dnn, layer.shape(Pass::forward), args.y.n, u_bytes,
                             space.chunk_bytes - layer.filter_bytes());
  if (!choice) return false;
  const ImageChunks& chunks = choice->chunks;
  char* u_memory = space.chunks + layer.filter_bytes();
  dense_filter(space.own, args.w, space.chunks);
  for (int i = 0; i < chunks.count; ++i) {
    const int first = chunks.first(i), count = chunks.size(i);
    void* u = source(space.own, slice(args.x, first, count), u_memory);
    void* x = layer.input(space.own, *choice, count, u, u_memory + chunks.each * u_bytes);
    dnn.run(context, *choice->plans.of(chunks, i),
            {x, space.chunks, slice(args.y, first, count).data}, space.library);
  }
  finish_output(space.own, args.y, args.y.c, nullptr, args.moments);
  return true;
}

void dgrad(const CudaContext& context, const LibrarySpace& space, const DepthwiseBackward& args,
           const Layer& layer, const WindowChoice& choice) {
  const ImageChunks& chunks = choice.chunks;
  const bool in_place = args.dx.how == Write::overwrite;  // else du needs memory of its own
  char* dy_memory = space.chunks + layer.filter_bytes();
  char* du_memory = dy_memory + chunks.each * image_bytes(args.dy.dz, !plain(args.dy));
  char* windows = du_memory + chunks.each * image_bytes(args.dx.dz, !in_place);
  dense_filter(space.own, args.w, space.chunks);
  for (int i = 0; i < chunks.count; ++i) {
    const int first = chunks.first(i), count = chunks.size(i);
    void* dy = incoming(space.own, slice(args.dy, first, count), dy_memory);
    SourceGrad grad = args.dx;
    grad.dz = slice(args.dx.dz, first, count);
    void* du = in_place ? grad.dz.data : du_memory;
    cudnn(context).run(context, *choice.plans.of(chunks, i),
                       {choice.copied ? windows : du, space.chunks, dy}, space.library);
    layer.output(space.own, choice, count, du, windows);
    if (!in_place) finish_grad(space.own, du, slice(args.x, first, count), grad);
  }
  if (in_place) finish_grad(space.own, args.dx.dz.data, args.x, args.dx);
}

void wgrad(const CudaContext& context, const LibrarySpace& space, const DepthwiseBackward& args,
           const Layer& layer, const WindowChoice& choice) {
  const ImageChunks& chunks = choice.chunks;
  char* dy_memory = space.chunks + layer.filter_bytes();
  char* u_memory = dy_memory + chunks.each * image_bytes(args.dy.dz, !plain(args.dy));
  char* windows = u_memory + chunks.each * image_bytes(args.x.y, !plain(args.x));
  FilterSum sum;
  sum.partial = space.chunks;
  sum.type = choice.shape.result;
  sum.rows = sum.column_step = args.w.k * args.w.k;
  sum.row_step = 1;
  sum.width = args.x.y.c;
  sum.ld = args.dw.in.max;
  sum.out = args.dw.f32();
  for (int i = 0; i < chunks.count; ++i) {
    const int first = chunks.first(i), count = chunks.size(i);
    void* dy = incoming(space.own, slice(args.dy, first, count), dy_memory);
    void* u = source(space.own, slice(args.x, first, count), u_memory);
    void* x = layer.input(space.own, choice, count, u, windows);
    cudnn(context).run(context, *choice.plans.of(chunks, i), {x, space.chunks, dy}, space.library);
    if (i + 1 == chunks.count && args.decay != 0) {
      sum.w = args.w.data;
      sum.w_type = args.w.type;
      sum.decay = args.decay;
    }
    add_filter(space.own, sum);
  }
}

bool backward(const CudaContext& context, const DepthwiseBackward& args) {
  const Layer layer{args.x.y, args.dy.dz, args.w, args.stride, args.top, args.left};
  const LibrarySpace space(context);
  if (!layer.fits() || args.x.gate || args.expansion.w || args.dy.deferred.scale) return false;
  if (args.dx.addend.da) return false;
  if (space.chunk_bytes <= layer.filter_bytes()) return false;
  if (args.dx.dz && (args.dx.dz.type != args.x.y.type || !aligned_data(args.dx.dz.data))) {
    return false;
  }
  if (args.dw && (args.dw.type != DType::f32 || args.dw.in.max != args.w.in.max)) return false;
  const std::size_t room = space.chunk_bytes - layer.filter_bytes();
  const std::size_t dy_bytes = image_bytes(args.dy.dz, !plain(args.dy));
  const auto choice = [&](Pass pass, std::size_t bytes) {
    return choose(cudnn(context), layer.shape(pass), args.x.y.n, dy_bytes + bytes, room);
  };
  std::optional<WindowChoice> data, filter;  // both before anything is written
  if (args.dx.dz) {
    data = choice(Pass::dgrad, image_bytes(args.dx.dz, args.dx.how == Write::accumulate));
    if (!data) return false;
  }
  if (args.dw) {
    filter = choice(Pass::wgrad, image_bytes(args.x.y, !plain(args.x)));
    if (!filter) return false;
  }
  if (data) dgrad(context, space, args, layer, *data);
  if (filter) wgrad(context, space, args, layer, *filter);
  return true;
}

}  // namespace

bool depthwise(const CudaContext& context, const DepthwiseForward& args) {
  return wanted(context) &&
         count(context, forward(context, args), "depthwise", cudnn(context).refusal());
}

bool depthwise_backward(const CudaContext& context, const DepthwiseBackward& args) {
  return wanted(context) &&
         count(context, backward(context, args), "depthwise backward", cudnn(context).refusal());
}

}  // namespace tunas::kernels::cuda::library

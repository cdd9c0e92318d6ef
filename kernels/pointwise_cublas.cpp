// Pointwise (pointwise.h) through cuBLASLt. As the library sees our packed tensors, column-major:
//
//   forward  y[out x rows] = w[in x out]^T * u[in x rows]       leading dimensions in.max, in, y.c
//   dgrad   du[in x rows]  = w[in x out] * dy[out x rows]       in.max, dz.c, in
//   wgrad   dw[in x out]  += u[in x rows] * dy[out x rows]^T    in, dz.c, in.max; float
//
// so a prefix is a leading dimension here as well. y and du are rounded to the type of the network
// before bias, moments and act' are taken of them. A source or a gradient that needs nothing done
// is read where it lies; others are written out in chunks of images. Gated sources and deferred
// gradients are left to the own kernels.

#include "kernels/library.h"
#include "kernels/passes.h"
#include "kernels/pointwise.h"
#include "kernels/vendor/cublas.h"

namespace tunas::kernels::cuda::library {
namespace {

static_assert(Cublas::kWorkspaceBytes <= LibrarySpace::kLibraryBytes);

/// Rows of `images` images of t.
long rows_of(const Tensor& t, int images) { return static_cast<long>(images) * t.h * t.w; }

using Plans = ChunkPlans<MatmulPlan*>;

bool forward(const CudaContext& context, const PointwiseForward& args) {
  const Tensor& x = args.x.y;
  const Tensor& y = args.y;
  const LibrarySpace space(context);
  const ImageChunks chunks(x.n, image_bytes(x, !plain(args.x)), space.chunk_bytes);
  if (chunks.count == 0 || space.chunk_bytes == 0) return false;
  if (x.type != args.w.type || (y.type != x.type && y.type != DType::f32)) return false;
  if (!aligned_data(x.data) || !aligned_data(args.w.data) || !aligned_data(y.data)) return false;
  Cublas& blas = cublas(context);
  const Plans plans(blas, chunks, [&](int images) {
    return MatmulShape{args.w.out.now,
                       rows_of(x, images),
                       args.w.in.now,
                       args.w.in.max,
                       x.c,
                       y.c,
                       true,
                       false,
                       x.type,
                       y.type};
  });
  if (!plans.last) return false;
  for (int i = 0; i < chunks.count; ++i) {
    const Source part = slice(args.x, chunks.first(i), chunks.size(i));
    const void* u = part.y.data;
    if (!plain(part)) {
      write_source(space.own, part, space.chunks);
      u = space.chunks;
    }
    void* to = slice(y, chunks.first(i), chunks.size(i)).data;
    blas.run(context, *plans.of(chunks, i), {args.w.data, u, to}, space.library);
  }
  finish_output(space.own, y, args.w.out.now, args.bias, args.moments);
  return true;
}

bool dgrad(const CudaContext& context, const PointwiseBackward& args) {
  const Tensor& dz = args.dy.dz;
  const Tensor& dx = args.dx.dz;
  const bool in_place = args.dx.how == Write::overwrite;  // else du needs memory of its own
  if (args.x.gate || args.dy.deferred.scale || args.dx.addend.da) return false;
  const LibrarySpace space(context);
  const std::size_t dy_bytes = aligned(image_bytes(dz, !plain(args.dy)));
  const ImageChunks chunks(dz.n, dy_bytes + aligned(image_bytes(dx, !in_place)), space.chunk_bytes);
  if (chunks.count == 0 || space.chunk_bytes == 0) return false;
  if (dz.type != args.w.type || dx.type != dz.type) return false;
  if (!aligned_data(dz.data) || !aligned_data(args.w.data) || !aligned_data(dx.data)) return false;
  Cublas& blas = cublas(context);
  const Plans plans(blas, chunks, [&](int images) {
    return MatmulShape{args.w.in.now,  rows_of(dz, images),
                       args.w.out.now, args.w.in.max,
                       dz.c,           dx.c,
                       false,          false,
                       dz.type,        dx.type};
  });
  if (!plans.last) return false;
  for (int i = 0; i < chunks.count; ++i) {
    const int first = chunks.first(i), count = chunks.size(i);
    const Incoming part = slice(args.dy, first, count);
    const void* dy = part.dz.data;
    if (!plain(part)) {
      write_incoming(space.own, part, space.chunks);
      dy = space.chunks;
    }
    SourceGrad grad = args.dx;
    grad.dz = slice(dx, first, count);
    void* du = in_place ? grad.dz.data : space.chunks + chunks.each * dy_bytes;
    blas.run(context, *plans.of(chunks, i), {args.w.data, dy, du}, space.library);
    if (!in_place) finish_grad(space.own, du, slice(args.x, first, count), grad);
  }
  if (in_place) finish_grad(space.own, dx.data, args.x, args.dx);
  return true;
}

bool wgrad(const CudaContext& context, const PointwiseBackward& args) {
  const Tensor& dz = args.dy.dz;
  const Tensor& x = args.x.y;
  if (args.dy.deferred.scale) return false;
  const LibrarySpace space(context);
  const std::size_t dy_bytes = aligned(image_bytes(dz, !plain(args.dy)));
  const ImageChunks chunks(dz.n, dy_bytes + aligned(image_bytes(x, !plain(args.x))),
                           space.chunk_bytes);
  if (chunks.count == 0 || space.chunk_bytes == 0) return false;
  if (x.type != dz.type || args.dw.type != DType::f32) return false;
  if (!aligned_data(dz.data) || !aligned_data(x.data) || !aligned_data(args.dw.data)) return false;
  const int in = args.w.in.now, out = args.w.out.now;
  Cublas& blas = cublas(context);
  const Plans plans(blas, chunks, [&](int images) {
    return MatmulShape{in,   out,    rows_of(x, images), x.c, dz.c, args.dw.in.max, false,
                       true, x.type, DType::f32};
  });
  if (!plans.last) return false;
  for (int i = 0; i < chunks.count; ++i) {
    const Source source = slice(args.x, chunks.first(i), chunks.size(i));
    const Incoming incoming = slice(args.dy, chunks.first(i), chunks.size(i));
    const void* dy = incoming.dz.data;
    const void* u = source.y.data;
    if (!plain(incoming)) {
      write_incoming(space.own, incoming, space.chunks);
      dy = space.chunks;
    }
    if (!plain(source)) {
      char* to = space.chunks + chunks.each * dy_bytes;
      write_source(space.own, source, to);
      u = to;
    }
    blas.run(context, *plans.of(chunks, i), {u, dy, args.dw.data, Write::accumulate},
             space.library);
  }
  if (args.decay == 0) return true;
  FilterSum decay;  // of no partial sums
  decay.rows = out;
  decay.width = in;
  decay.ld = args.dw.in.max;
  decay.out = args.dw.f32();
  decay.w = args.w.data;
  decay.w_type = args.w.type;
  decay.decay = args.decay;
  add_filter(space.own, decay);
  return true;
}

}  // namespace

bool pointwise(const CudaContext& context, const PointwiseForward& args) {
  return wanted(context) &&
         count(context, forward(context, args), "pointwise", cublas(context).refusal());
}

bool pointwise_dgrad(const CudaContext& context, const PointwiseBackward& args) {
  return wanted(context) &&
         count(context, dgrad(context, args), "pointwise dgrad", cublas(context).refusal());
}

bool pointwise_wgrad(const CudaContext& context, const PointwiseBackward& args) {
  return wanted(context) &&
         count(context, wgrad(context, args), "pointwise wgrad", cublas(context).refusal());
}

}  // namespace tunas::kernels::cuda::library

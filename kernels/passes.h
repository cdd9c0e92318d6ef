// Passes around a library's product (library.h): each reads or writes a tensor once more than the
// own kernels do.
//
//   write_source    u = act(scale*y + shift) * gate
//   write_incoming  dy = ca*dz + cb*y + cc
//   finish_output   y <- y + bias, columns from `used` on <- 0; the moments of what is stored
//   finish_grad     dz = du*act'(z) with the sums of source.h; du may be dx.dz itself
//   dense_filter    [c][k*k] of the prefix of a depthwise filter [k*k][c.max]
//   add_filter      dw += the gradient of a chunk + decay*w
//   copy_window     images into or out of larger ones
//
// Tensors of a chunk hold whole images. Sums are ordered as everywhere.
#pragma once

#include <cstdint>

#include "kernels/cuda_context.h"
#include "kernels/source.h"

namespace tunas::kernels {

void write_source(const CudaContext& context, const Source& x, void* u);
void write_incoming(const CudaContext& context, const Incoming& dy, void* out);
void finish_output(const CudaContext& context, const Tensor& y, int used, const float* bias,
                   const Moments& moments);
void finish_grad(const CudaContext& context, const void* du, const Source& x, const SourceGrad& dx);
void dense_filter(const CudaContext& context, const Filter& w, void* dense);

/// out[row*ld + column] += partial[row*row_step + column*column_step] + decay*w[row*ld + column]
struct FilterSum {
  const void* partial = nullptr;  // null: only the decay
  DType type = DType::f32;
  int row_step = 0, column_step = 1;
  int rows = 0, width = 0, ld = 0;  // of out and w
  float* out = nullptr;
  const void* w = nullptr;
  DType w_type = DType::f32;
  float decay = 0;
};
void add_filter(const CudaContext& context, const FilterSum& sum);

/// Images of h x w pixels as stored; `data` may point to another pixel than the first.
struct Images {
  void* data = nullptr;
  int h = 0, w = 0;
};
/// h x w pixels of `pixel` bytes, a multiple of 8, of n images.
void copy_window(const CudaContext& context, const Images& from, const Images& to, int n, int h,
                 int w, std::size_t pixel);
void clear(const CudaContext& context, void* data, std::size_t bytes);

/// How a twin divides the workspace: partial sums of own kernels, the library's, chunks.
struct LibrarySpace {
  static constexpr std::size_t kOwnBytes = std::size_t{16} << 20;
  static constexpr std::size_t kLibraryBytes = std::size_t{32} << 20;

  CudaContext own;  // the context with the first part only
  char* library = nullptr;
  char* chunks = nullptr;
  std::size_t chunk_bytes = 0;  // 0: the workspace is too small for a twin

  explicit LibrarySpace(const CudaContext& context) : own(context) {
    constexpr std::size_t kBefore = kOwnBytes + kLibraryBytes;
    if (context.workspace_bytes <= kBefore) return;
    own.workspace_bytes = kOwnBytes;
    library = context.workspace + kOwnBytes;
    chunks = context.workspace + kBefore;
    chunk_bytes = context.workspace_bytes - kBefore;
  }
};

/// n images in chunks of `each`, the last one smaller.
struct ImageChunks {
  int n = 0, each = 0, count = 0;

  ImageChunks() = default;
  /// As few as hold `bytes` per image within `space`; count 0 where not even one image fits.
  ImageChunks(int images, std::size_t bytes, std::size_t space) : n(images) {
    const std::size_t fit = bytes == 0 ? static_cast<std::size_t>(n) : space / bytes;
    if (fit == 0 || n == 0) return;
    const int most = fit < static_cast<std::size_t>(n) ? static_cast<int>(fit) : n;
    count = (n + most - 1) / most;
    each = (n + count - 1) / count;
    count = (n + each - 1) / each;
  }
  int first(int chunk) const { return chunk * each; }
  int size(int chunk) const { return chunk + 1 < count ? each : n - first(chunk); }
  int last() const { return size(count - 1); }
};

/// The plans of a whole chunk and of the last one; `last` is null where either has none.
template <class Plan>
struct ChunkPlans {
  Plan whole = nullptr, last = nullptr;

  ChunkPlans() = default;
  template <class Library, class ShapeOf>
  ChunkPlans(Library& library, const ImageChunks& chunks, const ShapeOf& shape_of) {
    whole = library.plan(shape_of(chunks.each));
    last = whole ? library.plan(shape_of(chunks.last())) : nullptr;
  }
  Plan of(const ImageChunks& chunks, int chunk) const {
    return chunk + 1 < chunks.count ? whole : last;
  }
};

/// As the libraries' plans assume of their operands.
inline bool aligned_data(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}

constexpr std::size_t aligned(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

/// Bytes of one image, where `written` says that a copy of it is needed.
inline std::size_t image_bytes(const Tensor& t, bool written = true) {
  return written ? static_cast<std::size_t>(t.h) * t.w * t.c * size_of(t.type) : 0;
}

/// Images [first, first + count) of a tensor, of a source, of an incoming gradient.
inline Tensor slice(Tensor t, int first, int count) {
  if (t.data) t.data = static_cast<char*>(t.data) + first * image_bytes(t);
  t.n = count;
  return t;
}
inline Source slice(Source x, int first, int count) {
  if (x.gate) x.gate += static_cast<long>(first) * x.y.c;
  x.y = slice(x.y, first, count);
  return x;
}
inline Incoming slice(Incoming dy, int first, int count) {
  dy.dz = slice(dy.dz, first, count);
  dy.y = slice(dy.y, first, count);
  return dy;
}
inline bool plain(const Source& x) { return !x.scale && x.act == Act::none && !x.gate; }
inline bool plain(const Incoming& dy) { return !dy.ca; }

}  // namespace tunas::kernels

// The backward pass of the pointwise convolution on the CPU, fused: the gradient of the output is
// formed on load, the data gradient leaves with the activation's derivative and the sums that the
// next normalisation needs, and the weight gradient is taken from the same tile. For an output that
// was not stored pointwise_unstored.h has the products that stand in for it.
//
// Consecutive tiles form a chunk with a partial weight gradient of its own; the chunks are added in
// order. Columns of x are cut into blocks where the weight gradient would not stay in L2, or where
// there are few rows; every block forms the gradient of the output for itself.
#include <algorithm>
#include <optional>

#include "kernels/check.h"
#include "kernels/gemm.h"
#include "kernels/parallel.h"
#include "kernels/pointwise.h"
#include "kernels/pointwise_tiles.h"
#include "kernels/pointwise_unstored.h"

namespace tunas::kernels {

Cost cost(const PointwiseBackward& args) {
  const double in = args.w.in.now, w = in * args.w.out.now;
  const double rows = static_cast<double>(args.x.y.rows());
  const int products = (args.dx.dz ? 1 : 0) + (args.dw ? 1 : 0);
  const double dx = bytes_of(args.dx.dz), dw = args.dw ? 4 * w : 0;
  const double y = args.dy.ca ? bytes_of(args.dy.y) : 0;
  const double old_dx = args.dx.how == Write::accumulate ? dx : 0;
  const double flops =
      cpu::UnstoredOutput::is_meant(args.dy) ? 2 * (w + in * in) * rows + 2 * w * in : 2 * w * rows;
  return {flops * products,
          bytes_of(args.dy.dz) + y + bytes_of(args.x.y) + old_dx + bytes_of(args.dx.addend.da) +
              4 * w + dw,
          dx + dw};
}

namespace cpu {
namespace {

constexpr long kTileBytes = 128 << 10;   // of dy, u and du
constexpr long kBlockBytes = 256 << 10;  // of weight gradient that a tile adds to
constexpr long kBlockColumns = 192;      // narrower, forming dy again costs more than L2 saves

// The backward pass: its plan, which follows from the shapes, and its pieces of the workspace.
class Backward {
 public:
  Backward(CpuContext& context, const PointwiseBackward& args);
  void run();

 private:
  struct Task {
    long chunk;
    int block;
    float *dy, *u, *du;  // the thread's buffers: [tile rows][n], [tile rows][columns], a strip
  };

  struct Operands {
    const float *dy, *u;  // of a strip; u where the output was not stored
  };

  static int wanted_blocks(const PointwiseBackward& args);
  static long wanted_chunks(const PointwiseBackward& args, const Tiles& tiles, long blocks);
  void run(const Task& task) const;
  const float* incoming(const Strips::Strip& strip, float* dy) const;
  void data_grad(const Task& task, const Strips::Strip& strip, const Operands& from,
                 const Tiles::Tile& next) const;
  void store_grad(const Task& task, const Strips::Strip& strip) const;
  void weight_grad(const Task& task, const Tiles::Tile& tile, Write how) const;
  void add_up();

  CpuContext& context_;
  const PointwiseBackward& args_;
  const GemmLoops& gemm_ = gemm(context_);
  const PointwiseLoops& loops_ = pointwise_loops();
  const bool unstored_;
  const bool as_it_lies_;  // dz itself is what the products read
  const bool plain_;       // u = x: not loaded
  const bool images_;      // a strip is of one image
  const int k_, n_;        // columns of x and of y
  const Blocks blocks_;
  const Tiles tiles_;
  const long chunks_;
  const long scratch_;
  const long weights_;
  Workspace workspace_;
  std::optional<UnstoredOutput> output_;  // that was not stored
  const PackedBlocks w_;
  float* const dw_;       // [chunk][block][out.now][block's columns]; null: straight into dw
  float* const sums_;     // [chunk][2][k]: S1, and S2 before its factor
  float* const dz_sums_;  // [chunk][n]: of dy, or of dz where the output was not stored
  float* const scratches_;
};

Backward::Backward(CpuContext& context, const PointwiseBackward& args)
    : context_(context),
      args_(args),
      unstored_(UnstoredOutput::is_meant(args.dy)),
      as_it_lies_(!args.dy.ca || unstored_),
      plain_(is_plain(args.x) && !unstored_),
      images_(args.x.gate || args.dy.deferred.spread),
      k_(args.w.in.now),
      n_(round_up_8(args.w.out.now)),
      blocks_(k_, wanted_blocks(args)),
      tiles_(args.x.y, tile_rows(kTileBytes, n_ + 2 * blocks_.width), images_),
      chunks_(wanted_chunks(args, tiles_, blocks_.count)),
      scratch_(whole_lines(tiles_.rows * (long{n_} + blocks_.width)) +
               whole_lines(long{kStripRows} * blocks_.width)),
      weights_(long{args.w.out.now} * k_),
      workspace_(context, "pointwise_backward"),
      output_(unstored_ ? std::make_optional<UnstoredOutput>(context, workspace_, args, chunks_)
                        : std::nullopt),
      w_{blocks_,
         {unstored_ ? output_->weights() : args.w.f32(), unstored_ ? k_ : args.w.in.max, 1,
          args.w.out.now, k_, args.dx.dz ? workspace_.take(weights_) : nullptr}},
      dw_(args.dw && (chunks_ > 1 || unstored_) ? workspace_.take(chunks_ * weights_) : nullptr),
      sums_(args.dx.dz && args.dx.mean && !args.x.gate ? workspace_.take(chunks_ * 2 * k_)
                                                       : nullptr),
      dz_sums_(args.dbias || (unstored_ && args.dw) ? workspace_.take(chunks_ * n_) : nullptr),
      scratches_(workspace_.take(scratch_ * context.threads)) {}

// Enough blocks that the weight gradient of one stays in L2, and that few rows make enough tasks.
int Backward::wanted_blocks(const PointwiseBackward& args) {
  const long k = args.w.in.now, rows = args.x.y.rows();
  if (UnstoredOutput::is_meant(args.dy)) return 1;  // few columns, and products of all of them
  const long large = (args.w.out.now * k * 4 + kBlockBytes - 1) / kBlockBytes;
  const long for_cache = std::min(large, k / kBlockColumns);
  const long for_tasks = kMinTasks * 64 / rows;
  return static_cast<int>(std::clamp(std::max(for_cache, for_tasks), 1L, k / 32 + 1));
}

// Partial gradients may cost an eighth of the traffic of the tensors, or whatever it takes to have
// enough tasks.
long Backward::wanted_chunks(const PointwiseBackward& args, const Tiles& tiles, long blocks) {
  const double k = args.w.in.now, n = args.w.out.now;
  const double rows = static_cast<double>(args.x.y.rows());
  const long cheap = static_cast<long>(rows * (n + 2 * k) / (8 * n * k));
  const long wanted = std::max(std::min(cheap, kMaxChunks), (kMinTasks + blocks - 1) / blocks);
  return std::min(wanted, tiles.runs > 1 ? tiles.runs : tiles.count());
}

void Backward::run() {
  if (output_) output_->prepare(context_);
  if (args_.dx.dz) w_.pack(context_, gemm_);
  parallel(context_, chunks_ * blocks_.count, [this](long i, int slot) {
    float* const dy = scratches_ + slot * scratch_;
    float* const du = dy + whole_lines(tiles_.rows * long{n_});
    float* const u = du + whole_lines(long{kStripRows} * blocks_.width);
    run({i / blocks_.count, static_cast<int>(i % blocks_.count), dy, u, du});
  });
  add_up();
}

void Backward::run(const Task& task) const {
  const int begin = blocks_.begin(task.block), size = blocks_.size(task.block);
  if (sums_) {
    float* s1 = sums_ + task.chunk * 2 * k_ + begin;
    std::fill_n(s1, size, 0.0f);
    std::fill_n(s1 + k_, size, 0.0f);
  }
  float* const dz_sums = dz_sums_ && task.block == 0 ? dz_sums_ + task.chunk * n_ : nullptr;
  if (dz_sums) std::fill_n(dz_sums, n_, 0.0f);

  // With a gate a chunk is a number of whole images, so that dgate has one writer.
  const long unit = tiles_.runs > 1 ? tiles_.per_run : 1, units = tiles_.count() / unit;
  const long first = part_begin(units, task.chunk, chunks_) * unit;
  const long last = part_begin(units, task.chunk + 1, chunks_) * unit;
  for (long t = first; t < last; ++t) {
    const Tiles::Tile tile = tiles_[t];
    Strips strips(args_.x.y, images_, tile);
    for (Strips::Strip strip; strips.next(strip);) {
      const long row = strip.begin - tile.begin;
      const float* dy = incoming(strip, task.dy + row * n_);
      float* const u = task.u + row * size;
      if (dz_sums) loops_.sum_rows({strip.rows, n_, dy, n_, dz_sums});
      if (!plain_ && (args_.dw || output_)) {
        LoadSource load = load_strip(args_.x, strip, begin, size, u);
        if (output_) load.pivot = output_->pivot();
        loops_.load_source(load);
      }
      if (args_.dx.dz) {
        data_grad(task, strip, {dy, u}, {strip.begin + tile.rows, strip.rows});
      }
    }
    if (args_.dw) weight_grad(task, tile, dw_ && t == first ? Write::overwrite : Write::accumulate);
  }
}

const float* Backward::incoming(const Strips::Strip& strip, float* dy) const {
  const Incoming& in = args_.dy;
  const long at = strip.begin * n_;
  if (as_it_lies_) return in.dz.f32() + at;
  LoadIncoming load{
      strip.rows, n_, in.dz ? in.dz.f32() + at : nullptr, in.y.f32() + at, in.ca, in.cb, in.cc, dy};
  if (const Deferred& deferred = in.deferred; deferred.scale) {
    load.scale = deferred.scale;
    load.shift = deferred.shift;
    load.act = deferred.act;
    load.weight = deferred.weight;
    if (deferred.spread) load.spread = deferred.spread + strip.image * n_;
  }
  loops_.load_incoming(load);
  return dy;
}

void Backward::data_grad(const Task& task, const Strips::Strip& strip, const Operands& from,
                         const Tiles::Tile& next) const {
  Multiply product;
  product.m = strip.rows;
  product.n = blocks_.size(task.block);
  product.k = args_.w.out.now;
  product.a = from.dy;
  product.lda = n_;
  product.b = w_[task.block];
  product.bias = output_ ? output_->bias() : nullptr;
  product.c = task.du;
  product.ldc = product.n;
  product.ahead[0] = rows_ahead(args_.dy.dz, next.begin, next.rows);
  product.ahead[1] = rows_ahead(args_.dx.dz, next.begin, next.rows);
  gemm_.multiply(product);
  if (output_) output_->add_product(strip.rows, from.u, task.du);
  store_grad(task, strip);
}

void Backward::store_grad(const Task& task, const Strips::Strip& strip) const {
  const int begin = blocks_.begin(task.block), size = blocks_.size(task.block);
  const Source& x = args_.x;
  const SourceGrad& dx = args_.dx;
  const long at = strip.begin * k_ + begin;
  StoreGrad store;
  store.rows = strip.rows;
  store.c = size;
  store.du = task.du;
  store.y = x.y.f32() + at;
  store.dz = dx.dz.f32() + at;
  store.ld = k_;
  if (dx.addend.da) store.addend = dx.addend.da.f32() + at;
  store.weight = dx.addend.weight;
  store.scale = x.scale ? x.scale + begin : nullptr;
  store.shift = x.shift ? x.shift + begin : nullptr;
  store.act = x.act;
  store.how = dx.how;
  if (sums_) {
    store.mean = dx.mean + begin;
    store.sum_dz = sums_ + task.chunk * 2 * k_ + begin;
    store.sum_dz_y = store.sum_dz + k_;
  }
  if (x.gate) {
    const long of_image = strip.image * k_ + begin;
    store.gate = x.gate + of_image;
    store.dgate = dx.dgate + of_image;
    if (strip.first) std::fill_n(store.dgate, size, 0.0f);
    if (dx.slope_sums) {
      store.mean = dx.mean + begin;
      store.sum_dz = dx.slope_sums + of_image;
      store.sum_dz_y = store.sum_dz + long{x.y.n} * k_;
      if (strip.first) std::fill_n(store.sum_dz, size, 0.0f);
      if (strip.first) std::fill_n(store.sum_dz_y, size, 0.0f);
    }
  }
  loops_.store_grad(store);
}

// With one chunk straight into dw, which has every row of the tensors then.
void Backward::weight_grad(const Task& task, const Tiles::Tile& tile, Write how) const {
  const int begin = blocks_.begin(task.block), size = blocks_.size(task.block);
  MultiplyTransposed product;
  product.m = args_.w.out.now;
  product.n = size;
  product.rows = tile.rows;
  product.a = as_it_lies_ ? args_.dy.dz.f32() + tile.begin * n_ : task.dy;
  product.lda = n_;
  product.b = plain_ ? args_.x.y.f32() + tile.begin * k_ + begin : task.u;
  product.ldb = plain_ ? k_ : size;
  product.how = how;
  product.c = dw_ ? dw_ + task.chunk * weights_ + long{product.m} * begin : args_.dw.f32() + begin;
  product.ldc = dw_ ? size : args_.dw.in.max;
  const long next = tile.begin + tile.rows;
  product.ahead[0] = rows_ahead(args_.x.y, next, tile.rows);
  if (!as_it_lies_) product.ahead[1] = rows_ahead(args_.dy.y, next, tile.rows);
  gemm_.multiply_transposed(product);
  if (output_) output_->add_rows(task.chunk, tile.rows, task.u, how);
}

void Backward::add_up() {
  const int chunks = static_cast<int>(chunks_);
  const Filter& w = args_.w;
  if (output_ && args_.dw) {
    output_->add_weight_grad(context_, {dw_, dz_sums_, n_});
  } else if (dw_ || (args_.dw && args_.decay != 0)) {
    parallel(context_, w.out.now, [&](long o, int) {
      for (int block = 0; block < blocks_.count; ++block) {
        const int begin = blocks_.begin(block), size = blocks_.size(block);
        const float* partial = dw_ ? dw_ + long{w.out.now} * begin + o * size : nullptr;
        const long at = o * w.in.max + begin;
        add_weight_grad({dw_ ? chunks : 0, weights_, partial, size, args_.decay, w.f32() + at,
                         args_.dw.f32() + at});
      }
    });
  }
  const SourceGrad& dx = args_.dx;
  if (sums_) {
    add_chunks({chunks, 2L * k_, sums_, 0, k_, nullptr, dx.how, dx.sum_dz});
    add_chunks({chunks, 2L * k_, sums_ + k_, 0, k_, dx.inv_std, dx.how, dx.sum_dz_xhat});
  }
  if (args_.dbias) {
    add_chunks({chunks, n_, dz_sums_, 0, w.out.now, nullptr, Write::accumulate, args_.dbias});
  }
}

void check_incoming(const char* kernel, const Incoming& dy, const Tensor& like) {
  const Deferred& deferred = dy.deferred;
  require(!dy.ca == !dy.cb && !dy.ca == !dy.cc, kernel, ": ca, cb and cc go together");
  check_absent_shape(kernel, "dz", dy.dz, like.n, like.h, like.w, like.c);
  require(dy.dz || deferred.spread, kernel, ": dz has no memory, and no spread stands in for it");
  if (dy.ca) check_absent_shape(kernel, "y", dy.y, like.n, like.h, like.w, like.c);
  require(!deferred.scale == !deferred.shift, kernel,
          ": scale and shift of a deferred gradient go together");
  require(deferred.scale || !deferred.spread, kernel,
          ": a spread belongs to a deferred gradient, which needs scale and shift");
  require(!deferred.scale || (dy.ca && dy.y), kernel,
          ": a deferred gradient needs y and the coefficients of its normalisation");
}

void check(const PointwiseBackward& args) {
  const char* kernel = "pointwise_backward";
  const Tensor& x = args.x.y;
  const SourceGrad& dx = args.dx;
  check_pointwise(kernel, args.x, args.w);
  check_incoming(kernel, args.dy, {nullptr, x.type, x.n, x.h, x.w, round_up_8(args.w.out.now)});
  if (UnstoredOutput::is_meant(args.dy)) {
    check_expanded(kernel, args.x);
    require(!args.dbias, kernel, ": an output that was not stored has no bias");
  }
  if (args.dw) {
    require(args.dw.type == DType::f32 && args.dw.out == args.w.out && args.dw.in == args.w.in,
            kernel, ": dw must have the widths and the type of w");
  }
  check_addend(kernel, dx);
  if (!dx.dz) return;
  check_same_shape(kernel, "dx.dz", dx.dz, x);
  if (args.x.gate) {
    refuse_addend(kernel, dx);
    require(dx.dgate && !dx.sum_dz && !dx.sum_dz_xhat, kernel,
            ": a gated x needs dgate, and its sums over the batch are not known yet");
    require(!dx.slope_sums == !dx.mean, kernel, ": slope_sums and mean of a gated x go together");
    return;
  }
  require(!dx.slope_sums, kernel, ": slope_sums are of a gated x");
  require(!dx.mean || (dx.inv_std && dx.sum_dz && dx.sum_dz_xhat), kernel,
          ": mean, inv_std and the two sums go together");
}

}  // namespace

void pointwise_backward(CpuContext& context, const PointwiseBackward& args) {
  check(args);
  Backward(context, args).run();
}

}  // namespace cpu
}  // namespace tunas::kernels

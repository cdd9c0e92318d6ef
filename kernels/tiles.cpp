#include "kernels/tiles.h"

#include <algorithm>
#include <cstdint>

#include "kernels/error.h"

namespace tunas::kernels::cpu {
namespace {

constexpr std::uintptr_t kLine = 64;

constexpr long ceil_div(long a, long b) { return (a + b - 1) / b; }

}  // namespace

Workspace::Workspace(const CpuContext& context, const char* kernel)
    : kernel_(kernel), next_(context.workspace), end_(next_ + context.workspace_bytes) {
  next_ += (kLine - reinterpret_cast<std::uintptr_t>(next_) % kLine) % kLine;
}

float* Workspace::take(long floats) {
  const long bytes = ceil_div(floats * 4, kLine) * static_cast<long>(kLine);
  if (end_ - next_ < bytes) {
    fail(Exit::memory, kernel_, ": the workspace lacks ", bytes - (end_ - next_),
         " bytes; give the context a larger one, or fewer threads");
  }
  char* taken = next_;
  next_ += bytes;
  return reinterpret_cast<float*>(taken);
}

Tiles::Tiles(const Tensor& t, int wanted_rows, bool images) {
  const long image = static_cast<long>(t.h) * t.w;
  const bool parts = images && image > wanted_rows;
  runs = parts ? t.n : 1;
  run = t.rows() / runs;
  const long unit = images && !parts ? image : 8;
  const long tiles = ceil_div(run, std::max<long>(wanted_rows, unit));
  rows = static_cast<int>(ceil_div(ceil_div(run, tiles), unit) * unit);
  per_run = ceil_div(run, rows);
}

Tiles::Tile Tiles::operator[](long tile) const {
  const long first = tile % per_run * rows;
  return {tile / per_run * run + first, static_cast<int>(std::min<long>(rows, run - first))};
}

Blocks::Blocks(int columns, int wanted_blocks)
    : columns(columns),
      width(static_cast<int>(ceil_div(ceil_div(columns, wanted_blocks), 16) * 16)),
      count(static_cast<int>(ceil_div(columns, width))) {}

int Blocks::size(int block) const { return std::min(width, columns - begin(block)); }

void merge_moments(const Tiles& tiles, const float* partial, int c, int begin, int end,
                   const Moments& moments) {
  constexpr int kGroup = 16;
  for (int i = begin; i < end; i += kGroup) {
    const int group = std::min(kGroup, end - i);
    double mean[kGroup] = {}, m2[kGroup] = {}, rows = 0;
    for (long t = 0; t < tiles.count(); ++t) {
      const double tile_rows = tiles[t].rows;
      const double share = tile_rows / (rows + tile_rows);
      const float* tile = partial + t * 3 * c + i;
      for (int j = 0; j < group; ++j) {
        const double d = tile[j] - mean[j];
        mean[j] += d * share;
        m2[j] += tile[c + j] + d * d * rows * share;
      }
      rows += tile_rows;
    }
    for (int j = 0; j < group; ++j) {
      moments.mean[i + j] = static_cast<float>(mean[j]);
      moments.variance[i + j] = static_cast<float>(m2[j] / rows);
    }
  }
}

void add_chunks(const AddChunks& args) {
  for (int i = args.begin; i < args.end; ++i) {
    double sum = 0;
    for (int q = 0; q < args.chunks; ++q) sum += args.partial[q * args.stride + i];
    if (args.factor) sum *= args.factor[i];
    if (args.how == Write::accumulate) sum += args.sum[i];
    args.sum[i] = static_cast<float>(sum);
  }
}

void add_source_sums(const SourceGrad& grad, const float* partial, int chunks, long stride, int c) {
  if (!grad.mean) return;
  add_chunks({chunks, stride, partial, 0, c, nullptr, grad.how, grad.sum_dz});
  add_chunks({chunks, stride, partial + c, 0, c, grad.inv_std, grad.how, grad.sum_dz_xhat});
}

void add_weight_grad(const AddWeightGrad& args) {
  constexpr int kGroup = 64;
  for (int i = 0; i < args.c; i += kGroup) {
    const int group = std::min(kGroup, args.c - i);
    float sum[kGroup];
    for (int j = 0; j < group; ++j) sum[j] = args.decay * args.w[i + j];
    for (int q = 0; q < args.chunks; ++q) {
      const float* partial = args.partial + q * args.stride + i;
      for (int j = 0; j < group; ++j) sum[j] += partial[j];
    }
    for (int j = 0; j < group; ++j) args.dw[i + j] += sum[j];
  }
}

}  // namespace tunas::kernels::cpu

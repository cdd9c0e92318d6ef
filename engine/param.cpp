#include "engine/param.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/error.h"
#include "kernels/philox.h"
#include "kernels/update.h"

namespace tunas::engine {
namespace {

constexpr int kFree = -1;
constexpr std::size_t kAlign = 16;  // floats: every parameter starts on a cache line
/// Standard deviation of a standard normal cut at 2 sigma (specification section 8).
constexpr double kTruncatedStd = 0.87962566103423978;

std::size_t aligned(std::size_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

/// A standard normal, redrawn until it lies within `cut`.
double normal(PhiloxKey key, std::uint64_t index, double cut) {
  for (;; ++key.shard) {
    const Random4 r = philox(key, index);
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform_double(r.v[0], r.v[1])));
    const double angle = 2.0 * std::numbers::pi * uniform_double(r.v[2], r.v[3]);
    for (const double z : {radius * std::cos(angle), radius * std::sin(angle)}) {
      if (std::abs(z) <= cut) return z;
    }
  }
}

}  // namespace

Init Init::he(int fan_in) { return {Kind::truncated_normal, std::sqrt(2.0 / fan_in)}; }

std::size_t Param::stored() const {
  return static_cast<std::size_t>(weight.out) * static_cast<std::size_t>(weight.k) *
         static_cast<std::size_t>(weight.k) * static_cast<std::size_t>(weight.in);
}

Weight ParamStore::add(const std::string& name, Weight sizes, Init init, int in_used) {
  require(!masters_.data(), "parameter ", name, " was added after the store took its memory");
  Param param{name, sizes, {}, init};
  if (sizes.out > 1) param.shape.push_back(sizes.out);
  if (sizes.k > 1) param.shape.insert(param.shape.end(), {sizes.k, sizes.k});
  param.shape.push_back(in_used > 0 ? in_used : sizes.in);
  std::size_t& size = sizes.running ? running_size_ : size_;
  param.weight.offset = static_cast<std::ptrdiff_t>(size);
  size += aligned(param.stored());
  params_.push_back(param);
  return param.weight;
}

void ParamStore::allocate(const Device& device, int shards, int states) {
  const std::size_t bytes = size_ * sizeof(float);
  masters_ = device.alloc(bytes);
  running_ = device.alloc(3 * running_size_ * sizeof(float));
  for (int i = 0; i < states; ++i) states_.push_back(device.alloc(bytes));
  int levels = 0;  // partial sums that can wait at the same time
  while ((2 << levels) <= shards) ++levels;
  if (shards > (1 << levels)) ++levels;
  for (int i = 0; i < levels + 1; ++i) gradients_.push_back(device.alloc(bytes));
  partial_.assign(static_cast<std::size_t>(levels), kFree);
}

void ParamStore::init(std::uint64_t seed) {
  for (std::size_t i = 0; i < params_.size(); ++i) {
    const Param& p = params_[i];
    const PhiloxKey key{seed, Purpose::init, static_cast<std::uint32_t>(i), 0};
    const bool truncated = p.init.kind == Init::Kind::truncated_normal;
    const double cut = truncated ? 2.0 : 1e30;
    const double sigma = truncated ? p.init.value / kTruncatedStd : p.init.value;
    const std::size_t in = static_cast<std::size_t>(p.weight.in);
    const std::size_t used = static_cast<std::size_t>(p.shape.back());
    float* w = data(p.weight);
    for (std::size_t e = 0; e < p.stored(); ++e) {
      if (e % in >= used) {
        w[e] = 0;
      } else if (p.init.kind == Init::Kind::constant) {
        w[e] = static_cast<float>(p.init.value);
      } else {
        w[e] = static_cast<float>(sigma * normal(key, e, cut));
      }
    }
  }
}

float* ParamStore::data(const Weight& w) const {
  return (w.running ? reinterpret_cast<float*>(running_.data()) : masters()) + w.offset;
}

float* ParamStore::grad(const Weight& w) const {
  if (!w.running) return grads() + w.offset;
  return reinterpret_cast<float*>(running_.data()) + running_size_ + w.offset;
}

Filter ParamStore::view(const Weight& w, int out, int in) const {
  return {data(w), DType::f32, {w.out, out}, {w.in, in}, w.k};
}

Filter ParamStore::grad_view(const Weight& w, int out, int in) const {
  return {grad(w), DType::f32, {w.out, out}, {w.in, in}, w.k};
}

void ParamStore::begin_shard(const Device& device) {
  device.zero(grads(), size_ * sizeof(float));
  float* running = reinterpret_cast<float*>(running_.data());
  device.copy(running + running_size_, running, running_size_ * sizeof(float));
}

void ParamStore::end_shard(const Device& device, int shard, int shards) {
  const bool last = shard + 1 == shards;
  for (std::size_t level = 0; level < partial_.size(); ++level) {
    int& waiting = partial_[level];
    const bool complete = (shard >> level & 1) != 0;  // the right half of this node
    if (waiting == kFree && last) continue;           // an odd tail rises alone
    if (!complete && !last) {
      waiting = static_cast<int>(current_);
      break;
    }
    if (waiting != kFree) {
      const float* sum =
          reinterpret_cast<float*>(gradients_[static_cast<std::size_t>(waiting)].data());
      kernels::add(device.stream(), {size_, grads(), sum});
      waiting = kFree;
    }
  }
  if (!last) current_ = free_buffer();
  float* running = reinterpret_cast<float*>(running_.data());
  float* copy = running + running_size_;
  float* sum = copy + running_size_;
  for (std::size_t i = 0; i < running_size_; ++i) {
    sum[i] = shard == 0 ? copy[i] : sum[i] + copy[i];
    if (last) running[i] = sum[i] / static_cast<float>(shards);
  }
}

std::size_t ParamStore::free_buffer() const {
  for (std::size_t b = 0; b < gradients_.size(); ++b) {
    if (std::find(partial_.begin(), partial_.end(), static_cast<int>(b)) == partial_.end()) {
      return b;
    }
  }
  fail(Exit::usage, "gradient buffers: more shards ended than the store was allocated for");
}

const Param* ParamStore::find(const std::string& name) const {
  const auto at = std::find_if(params_.begin(), params_.end(),
                               [&name](const Param& p) { return p.name == name; });
  return at == params_.end() ? nullptr : &*at;
}

}  // namespace tunas::engine

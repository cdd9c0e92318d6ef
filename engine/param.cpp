#include "engine/param.h"

#include <algorithm>
#include <bit>
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

namespace {

/// Gradient buffers: the current one, and partial sums that can wait at the same time.
int tree_levels(int shards) {
  int levels = 0;
  while ((2 << levels) <= shards) ++levels;
  if (shards > (1 << levels)) ++levels;
  return levels;
}

std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return 0x7fff;
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace

std::size_t ParamStore::bytes(DType type, int shards, int states) const {
  const auto arrays = static_cast<std::size_t>(2 + tree_levels(shards) + states);
  return (arrays * size_ + 3 * running_size_) * sizeof(float) +
         (type == DType::bf16 ? size_ * size_of(type) : 0);
}

void ParamStore::allocate(const Device& device, int shards, int states) {
  device_ = &device;
  const std::size_t bytes = size_ * sizeof(float);
  masters_ = device.alloc(bytes);
  if (device.activation_type() == DType::bf16) shadow_ = device.alloc(size_ * size_of(DType::bf16));
  running_ = device.alloc(3 * running_size_ * sizeof(float));
  for (int i = 0; i < states; ++i) states_.push_back(device.alloc(bytes));
  const int levels = tree_levels(shards);
  for (int i = 0; i < levels + 1; ++i) gradients_.push_back(device.alloc(bytes));
  partial_.assign(static_cast<std::size_t>(levels), kFree);
}

void ParamStore::init(std::uint64_t seed) {
  std::vector<float> values;
  for (std::size_t i = 0; i < params_.size(); ++i) {
    const Param& p = params_[i];
    const PhiloxKey key{seed, Purpose::init, static_cast<std::uint32_t>(i), 0};
    const bool truncated = p.init.kind == Init::Kind::truncated_normal;
    const double cut = truncated ? 2.0 : 1e30;
    const double sigma = truncated ? p.init.value / kTruncatedStd : p.init.value;
    const std::size_t in = static_cast<std::size_t>(p.weight.in);
    const std::size_t used = static_cast<std::size_t>(p.shape.back());
    values.resize(p.stored());
    for (std::size_t e = 0; e < p.stored(); ++e) {
      if (e % in >= used) {
        values[e] = 0;
      } else if (p.init.kind == Init::Kind::constant) {
        values[e] = static_cast<float>(p.init.value);
      } else {
        values[e] = static_cast<float>(sigma * normal(key, e, cut));
      }
    }
    write(p, values);
  }
}

std::vector<float> ParamStore::read(const Param& param) const {
  std::vector<float> values(param.stored());
  device_->copy(values.data(), data(param.weight), values.size() * sizeof(float));
  device_->sync();
  return values;
}

void ParamStore::write(const Param& param, std::span<const float> values) {
  device_->copy(data(param.weight), values.data(), values.size_bytes());
  if (!shadow() || param.weight.running) return;
  std::vector<std::uint16_t> rounded(values.size());
  std::transform(values.begin(), values.end(), rounded.begin(), to_bf16);
  device_->copy(static_cast<std::uint16_t*>(shadow()) + param.weight.offset, rounded.data(),
                rounded.size() * sizeof(std::uint16_t));
}

float* ParamStore::data(const Weight& w) const {
  return (w.running ? reinterpret_cast<float*>(running_.data()) : masters()) + w.offset;
}

float* ParamStore::grad(const Weight& w) const {
  if (!w.running) return grads() + w.offset;
  return reinterpret_cast<float*>(running_.data()) + running_size_ + w.offset;
}

Filter ParamStore::view(const Weight& w, int out, int in) const {
  Filter filter{data(w), DType::f32, {w.out, out}, {w.in, in}, w.k};
  if (shadow()) {
    filter.data = static_cast<std::uint16_t*>(shadow()) + w.offset;
    filter.type = DType::bf16;
  }
  return filter;
}

Filter ParamStore::grad_view(const Weight& w, int out, int in) const {
  return {grad(w), DType::f32, {w.out, out}, {w.in, in}, w.k};
}

void ParamStore::begin_shard() {
  device_->zero(grads(), size_ * sizeof(float));
  float* running = reinterpret_cast<float*>(running_.data());
  device_->copy(running + running_size_, running, running_size_ * sizeof(float));
}

void ParamStore::end_shard(int shard, int shards) {
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
      kernels::add(device_->stream(), {size_, grads(), sum});
      waiting = kFree;
    }
  }
  if (!last) current_ = free_buffer();
  float* running = reinterpret_cast<float*>(running_.data());
  kernels::shard_mean(device_->stream(), {running_size_, shard, shards, running + running_size_,
                                          running + 2 * running_size_, running});
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

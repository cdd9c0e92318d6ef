#include "engine/param.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "kernels/error.h"
#include "kernels/philox.h"

namespace tunas::engine {
namespace {

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

std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return 0x7fff;
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace

std::size_t ParamStore::bytes(DType type, int shards, int states) const {
  const auto arrays = static_cast<std::size_t>(1 + states);
  return (arrays * size_ + running_size_) * sizeof(float) +
         Gradients::bytes(size_ + running_size_, shards) +
         (type == DType::bf16 ? size_ * size_of(type) : 0);
}

void ParamStore::allocate(const Device& device, int shards, int states, Comm& comm) {
  device_ = &device;
  const std::size_t bytes = size_ * sizeof(float);
  masters_ = device.alloc(bytes);
  if (device.activation_type() == DType::bf16) shadow_ = device.alloc(size_ * size_of(DType::bf16));
  running_ = device.alloc(running_size_ * sizeof(float));
  for (int i = 0; i < states; ++i) states_.push_back(device.alloc(bytes));
  gradients_ = Gradients(device, comm, size_ + running_size_, shards);
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
  return (w.running ? running() : masters()) + w.offset;
}

float* ParamStore::grad(const Weight& w) const {
  return grads() + (w.running ? size_ : 0) + w.offset;
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
  device_->copy(grads() + size_, running(), running_size_ * sizeof(float));
}

void ParamStore::update_running(int shards, const kernels::Verdict* verdict) {
  if (running_size_ == 0) return;
  kernels::shard_mean(device_->stream(),
                      {running_size_, shards, grads() + size_, running(), verdict});
}

const Param* ParamStore::find(const std::string& name) const {
  const auto at = std::find_if(params_.begin(), params_.end(),
                               [&name](const Param& p) { return p.name == name; });
  return at == params_.end() ? nullptr : &*at;
}

}  // namespace tunas::engine

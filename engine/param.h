// ParamStore: every parameter of a network in one flat array, stored once at its largest size.
// Beside the masters lie gradients in the same layout and the optimizer's state, so that zeroing,
// reducing over shards and updating are single passes. A Weight is a handle; views are made on
// demand at the active width (a prefix of the stored filter, see kernels/tensor.h). Where kernels
// read bf16 there is also a shadow, the masters rounded, which the optimizer writes on its way.
//
// Running averages of normalisation (networks trained alone) are a second, small array: each shard
// of a step moves a copy, which lies behind its gradients and is summed with them; the mean over
// shards becomes the new value.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/device.h"
#include "engine/gradients.h"
#include "kernels/tensor.h"
#include "kernels/update.h"

namespace tunas::engine {

struct Weight {
  std::ptrdiff_t offset = -1;  // in floats from the start of its array
  int out = 1, k = 1, in = 1;  // stored sizes; depthwise: in = channels, out = 1
  bool running = false;        // a running average, not a trained parameter

  explicit operator bool() const { return offset >= 0; }
};

/// How a parameter starts: truncated normal (cut at 2 sigma, corrected), plain normal, constant.
struct Init {
  enum class Kind : unsigned char { truncated_normal, normal, constant } kind = Kind::constant;
  double value = 0;  // sigma of the result, or the constant

  /// He-normal: sigma = sqrt(2/fan_in) (specification section 8).
  static Init he(int fan_in);
};

struct Param {
  std::string name;  // blocks/2/layers/0/expand/kernel
  Weight weight;
  std::vector<std::int64_t> shape;  // as in weight files: [out][k][k][in], [k][k][c] or [c];
                                    // the stem's fourth input channel is absent
  Init init;

  std::size_t stored() const;  // floats in the store
};

class ParamStore {
 public:
  /// Registers a parameter; `in_used` < in leaves padding channels that stay zero and uncounted.
  Weight add(const std::string& name, Weight sizes, Init init, int in_used = 0);
  /// Takes the memory: masters, gradients for the sum over `shards` of all ranks of `comm`, and
  /// `states` state arrays. `device` and `comm` must outlive the store.
  void allocate(const Device& device, int shards, int states, Comm& comm = solo());
  const Device& device() const { return *device_; }
  /// Bytes that allocate will take; `shards`: of this rank.
  std::size_t bytes(DType type, int shards, int states) const;
  /// Fills masters from (seed, position, element): independent of sizes of other parameters.
  void init(std::uint64_t seed);
  /// A parameter as stored (Param::stored() floats), to and from the host's memory.
  std::vector<float> read(const Param& param) const;
  void write(const Param& param, std::span<const float> values);

  /// The prefix [out][k][k][in] of what kernels read, or of the current shard's gradient.
  Filter view(const Weight& w, int out, int in) const;
  Filter grad_view(const Weight& w, int out, int in) const;
  float* data(const Weight& w) const;
  /// The current shard's gradient; of a running average: the copy that this shard moves.
  float* grad(const Weight& w) const;

  /// Floats of the trained parameters, padding between them included.
  std::size_t size() const { return size_; }
  float* masters() const { return reinterpret_cast<float*>(masters_.data()); }
  float* running() const { return reinterpret_cast<float*>(running_.data()); }
  std::size_t running_size() const { return running_size_; }
  void* shadow() const { return shadow_.data(); }  // [size] bf16; null: kernels read the masters
  int states() const { return static_cast<int>(states_.size()); }
  float* state(int i) const {
    return reinterpret_cast<float*>(states_[static_cast<std::size_t>(i)].data());
  }
  float* grads() const { return gradients_.current(); }

  /// Before a shard: its gradients are zero, its running averages those of the last step.
  void begin_shard();
  /// Whether backward of this shard starts sums over ranks: then it is never the same twice.
  bool starts_sums() const { return gradients_.starts_sums(); }
  /// In backward: the gradients from `offset` on are done.
  void passed(std::size_t offset) { gradients_.passed(offset); }
  /// After a shard: its gradients join the sum over shards (engine/gradients.h).
  void end_shard() { gradients_.end_shard(); }
  /// After the last shard of a step: `grads` is the sum over all shards.
  void finish_sum() { gradients_.finish(); }
  /// Then: the running averages become the mean over `shards`. `verdict`: see kernels/update.h.
  void update_running(int shards, const kernels::Verdict* verdict = nullptr);

  const std::vector<Param>& params() const { return params_; }
  const Param* find(const std::string& name) const;  // null: not there

 private:
  const Device* device_ = nullptr;
  std::vector<Param> params_;
  std::size_t size_ = 0, running_size_ = 0;
  Memory masters_, shadow_, running_;
  std::vector<Memory> states_;
  Gradients gradients_;  // [of the parameters | copies of the running averages]
};

}  // namespace tunas::engine

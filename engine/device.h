// Device: where a run computes. Owns the stream and the scratch space of kernels, hands out memory.
// What is put on its stream runs in order; on a GPU the host runs ahead of it until sync().
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "kernels/stream.h"
#include "kernels/types.h"

namespace tunas::engine {

/// Where memory lies: with the kernels, or with the host, which a GPU then reads by itself.
enum class Place : unsigned char { device, host };

/// Gives memory back to where it came from.
struct ReturnMemory {
  Kind kind = Kind::cpu;
  Place place = Place::device;
  std::size_t bytes = 0;
  void operator()(char* data) const;
};

/// Owned memory, 64-byte aligned, zeroed. Move only.
class Memory {
 public:
  Memory() = default;

  /// Pages of the host.
  static Memory pages(std::size_t bytes);

  char* data() const { return data_.get(); }
  std::size_t bytes() const { return data_.get_deleter().bytes; }

 private:
  friend class Device;
  Memory(char* data, const ReturnMemory& by) : data_(data, by) {}

  std::unique_ptr<char, ReturnMemory> data_;
};

/// Processors that this process may use.
int available_cores();

class Device {
 public:
  /// A CPU device with `threads` threads; 0: as many as the process may use. Error where `kernels`
  /// asks for a library that was not built in.
  static Device cpu(int threads = 0, Kernels kernels = Kernels::automatic);
  /// GPU number `index`; `type`: of activations, their gradients and the weights that kernels read.
  /// TUNAS_SYNC=1 in the environment waits after each kernel, so that an error names it.
  /// Error(usage) where there is no such GPU or no such library in this build.
  static Device cuda(DType type = DType::bf16, Kernels kernels = Kernels::automatic, int index = 0);
  /// How many GPUs cuda() may choose from; where there is none `why` says so.
  static int gpus(std::string& why);

  Device(Device&&) noexcept;
  ~Device();

  Kind kind() const;
  Stream stream() const;
  /// Of the CPU, that compute.
  int threads() const;
  /// Who looks on at the kernels of every stream handed out from now on; null: nobody.
  void observe(Observer* observer) { observer_ = observer; }
  /// What activations and their gradients are stored as.
  DType activation_type() const;
  /// "2 threads" or the name of the GPU.
  std::string name() const;

  /// Error(memory) naming the size where there is no more.
  Memory alloc(std::size_t bytes, Place place = Place::device) const;
  /// Bytes that alloc can still give on the device.
  std::size_t available() const;

  /// Between any of the device's and the host's memory, in the stream's order.
  void copy(void* to, const void* from, std::size_t bytes) const;
  void zero(void* to, std::size_t bytes) const;
  void fill(float* to, std::size_t count, float value) const;
  /// Waits for all that was put on the stream. Error(numeric) where a kernel failed.
  void sync() const;

 private:
  struct Cpu;
  struct Gpu;
  Device();
  std::unique_ptr<Cpu> cpu_;
  std::unique_ptr<Gpu> gpu_;  // one of the two
  Observer* observer_ = nullptr;
};

}  // namespace tunas::engine

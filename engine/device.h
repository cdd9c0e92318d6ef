// Device: where a run computes. Owns the memory, the stream and the scratch space of kernels.
#pragma once

#include <cstddef>
#include <memory>

#include "kernels/stream.h"
#include "kernels/types.h"

namespace tunas::engine {

/// Gives a mapping back.
struct Unmap {
  std::size_t bytes = 0;
  void operator()(char* data) const;
};

/// Owned device memory, 64-byte aligned, zeroed.
class Memory {
 public:
  Memory() = default;
  /// Error(Exit::memory) naming the size where the machine has no more.
  Memory(Kind kind, std::size_t bytes);

  char* data() const { return data_.get(); }
  std::size_t bytes() const { return bytes_; }

 private:
  std::unique_ptr<char, Unmap> data_;
  std::size_t bytes_ = 0;
};

class Device {
 public:
  /// A CPU device with `threads` threads; 0: as many as the process may use. Error where `kernels`
  /// asks for a library that was not built in.
  static Device cpu(int threads = 0, Kernels kernels = Kernels::automatic);
  Device(Device&&) noexcept;
  ~Device();

  Kind kind() const { return stream_.kind; }
  Stream stream() const { return stream_; }
  /// Who looks on at the kernels of every stream handed out from now on; null: nobody.
  void observe(Observer* observer) { stream_.observer = observer; }
  int threads() const { return context_->threads; }
  /// What activations and their gradients are stored as.
  DType activation_type() const { return DType::f32; }

  Memory alloc(std::size_t bytes) const { return Memory(kind(), bytes); }
  void copy(void* to, const void* from, std::size_t bytes) const;
  void zero(void* to, std::size_t bytes) const;
  void sync() const {}

 private:
  Device();
  Stream stream_;
  Memory workspace_;
  std::unique_ptr<Workers> workers_;
  std::unique_ptr<CpuContext> context_;
};

}  // namespace tunas::engine

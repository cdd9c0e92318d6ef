// What the tests of CUDA kernels share: tensors that live on both sides (Field: device memory and
// its exact values as doubles), poisoned outputs with a guard behind them, and one error measure.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda_context.h"
#include "kernels/source.h"

namespace tunas::testing {

using Values = std::vector<double>;

inline void cuda_ok(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

/// One context for the whole program.
inline CudaContext& gpu() {
  static CudaContext context = [] {
    CudaContext c;
    cuda_ok(cudaStreamCreate(&c.stream));
    c.workspace_bytes = CudaContext::kWorkspaceBytes;
    void* workspace = nullptr;
    cuda_ok(cudaMalloc(&workspace, c.workspace_bytes));
    cuda_ok(cudaMemset(workspace, 0xff, c.workspace_bytes));  // NaN: nothing may read it first
    c.workspace = static_cast<char*>(workspace);
    c.synchronise = true;
    return c;
  }();
  return context;
}

inline std::uint16_t to_bf16(double v) {
  const float f = static_cast<float>(v);
  std::uint32_t bits;
  std::memcpy(&bits, &f, 4);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline double from_bf16(std::uint16_t half) {
  const std::uint32_t bits = std::uint32_t{half} << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

/// Device memory, poisoned with NaN, and on a GPU a guard of 64 bytes that nobody may write.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes) : bytes_(bytes) {
    cuda_ok(cudaMalloc(&data_, bytes + kGuard));
    cuda_ok(cudaMemset(data_, 0xff, bytes + kGuard));
  }
  Buffer(Buffer&& o) noexcept : data_(std::exchange(o.data_, nullptr)), bytes_(o.bytes_) {}
  Buffer& operator=(Buffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(bytes_, o.bytes_);
    return *this;
  }
  ~Buffer() {
    if (!data_) return;
    std::vector<unsigned char> guard(kGuard);
    cudaDeviceSynchronize();
    cudaMemcpy(guard.data(), static_cast<char*>(data_) + bytes_, kGuard, cudaMemcpyDefault);
    for (const unsigned char byte : guard) {
      if (byte != 0xff) {
        ADD_FAILURE() << "memory behind a tensor of " << bytes_ << " bytes was written";
        break;
      }
    }
    cudaFree(data_);
  }
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
#ifdef TUNAS_EMULATED_CUDA
  static constexpr std::size_t kGuard = 0;  // every access beyond an allocation is seen
#else
  static constexpr std::size_t kGuard = 64;
#endif
  void* data_ = nullptr;
  std::size_t bytes_;
};

/// Numbers on the device; `values` are exactly what was uploaded.
class Field {
 public:
  Field(DType type, int n, int h, int w, int c)
      : type_(type), buffer_(static_cast<std::size_t>(n) * h * w * c * size_of(type)) {
    tensor_ = {buffer_.data(), type, n, h, w, c};
  }

  /// Uniform in [low, high), rounded to the type.
  static Field random(DType type, int n, int h, int w, int c, unsigned seed, double low = -1,
                      double high = 1) {
    Field f(type, n, h, w, c);
    std::mt19937 generator(seed * 7919u + 17u);
    std::uniform_real_distribution<double> uniform(low, high);
    f.values.resize(static_cast<std::size_t>(n) * h * w * c);
    for (double& v : f.values) v = uniform(generator);
    f.upload();
    return f;
  }
  static Field channels(int c, unsigned seed, double low = -1, double high = 1) {
    return random(DType::f32, 1, 1, 1, c, seed, low, high);
  }

  /// Rounds `values` to the type and sends them.
  void upload() {
    std::vector<char> bytes(buffer_.bytes());
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (type_ == DType::bf16) {
        const std::uint16_t half = to_bf16(values[i]);
        values[i] = from_bf16(half);
        std::memcpy(&bytes[2 * i], &half, 2);
      } else {
        const float f = static_cast<float>(values[i]);
        values[i] = f;
        std::memcpy(&bytes[4 * i], &f, 4);
      }
    }
    cuda_ok(cudaMemcpy(buffer_.data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
  }

  Values download() const {
    cuda_ok(cudaDeviceSynchronize());
    std::vector<char> bytes(buffer_.bytes());
    cuda_ok(cudaMemcpy(bytes.data(), buffer_.data(), bytes.size(), cudaMemcpyDeviceToHost));
    Values out(bytes.size() / size_of(type_));
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (type_ == DType::bf16) {
        std::uint16_t half;
        std::memcpy(&half, &bytes[2 * i], 2);
        out[i] = from_bf16(half);
      } else {
        float f;
        std::memcpy(&f, &bytes[4 * i], 4);
        out[i] = f;
      }
    }
    return out;
  }

  const Tensor& tensor() const { return tensor_; }
  float* f32() const { return tensor_.f32(); }
  DType type() const { return type_; }

  Values values;

 private:
  DType type_;
  Buffer buffer_;
  Tensor tensor_;
};

/// |a-b| / |b| over all elements; NaN and unequal sizes count as infinite.
inline double relative_error(const Values& a, const Values& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  const double error = norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
  return std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
}

/// Limits: one rounding of the result in bf16 is 1.2e-3 on average.
inline double limit(DType type) { return type == DType::bf16 ? 3e-3 : 3e-6; }

inline void expect_near(const Field& got, const Values& want, double most, const char* what) {
  EXPECT_LT(relative_error(got.download(), want), most) << what;
}

}  // namespace tunas::testing

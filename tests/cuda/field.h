// Numbers that live on both sides, device memory and its exact values as doubles, and how near a
// kernel's have to come to those of a reference.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>

#include "kernels/tensor.h"
#include "tests/cuda/device.h"
#include "tests/support/compare.h"

namespace tunas::testing {

using test::relative_error;
using test::Values;

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

/// Limits: one rounding of the result in bf16 is 1.2e-3 on average.
inline double limit(DType type) { return type == DType::bf16 ? 3e-3 : 3e-6; }

inline void expect_near(const Field& got, const Values& want, double most, const char* what) {
  EXPECT_LT(relative_error(got.download(), want), most) << what;
}

}  // namespace tunas::testing

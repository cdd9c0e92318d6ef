// Padding, widths, views and the dispatch on the device.
#include "kernels/types.h"

#include <gtest/gtest.h>

#include "kernels/dispatch.h"
#include "kernels/gate.h"

namespace tunas {
namespace {

// What TensorFlow pads: {in, k, stride, out, before, after}. The convolutions themselves are
// compared with TensorFlow's in tensorflow_test.cpp.
TEST(PadAxis, SameKnownValues) {
  constexpr int kKnown[][6] = {
      {224, 3, 2, 112, 0, 1}, {224, 5, 2, 112, 1, 2}, {112, 7, 2, 56, 2, 3}, {112, 3, 1, 112, 1, 1},
      {7, 3, 2, 4, 1, 1},     {7, 5, 2, 4, 2, 2},     {7, 7, 2, 4, 3, 3},    {7, 5, 1, 7, 2, 2},
      {14, 5, 2, 7, 1, 2},    {15, 3, 2, 8, 1, 1},    {9, 1, 1, 9, 0, 0},    {9, 1, 2, 5, 0, 0},
      {1, 7, 1, 1, 3, 3},     {1, 3, 2, 1, 1, 1},     {2, 7, 2, 1, 2, 3}};
  for (const auto& [in, k, stride, out, before, after] : kKnown) {
    const Axis axis = pad_axis(Padding::same, in, k, stride);
    EXPECT_EQ(axis.out, out) << in << ' ' << k << ' ' << stride;
    EXPECT_EQ(axis.before, before) << in << ' ' << k << ' ' << stride;
    EXPECT_EQ(axis.after, after) << in << ' ' << k << ' ' << stride;
  }
}

// The rule itself: ceil(in/stride) outputs, the last window ends with the last padded pixel, and
// the odd pixel goes behind.
TEST(PadAxis, SameRule) {
  for (int in = 1; in <= 40; ++in) {
    for (int k : {1, 3, 5, 7}) {
      for (int stride : {1, 2}) {
        const Axis axis = pad_axis(Padding::same, in, k, stride);
        EXPECT_EQ(axis.out, (in + stride - 1) / stride);
        const int last = (axis.out - 1) * stride + k;
        if (k >= stride) {
          EXPECT_EQ(axis.before + in + axis.after, last);
        }
        EXPECT_TRUE(axis.after == axis.before || axis.after == axis.before + 1);
      }
    }
  }
}

TEST(PadAxis, SymmetricIsHalfTheKernelOnBothSides) {
  for (int in = 1; in <= 40; ++in) {
    for (int k : {1, 3, 5, 7}) {
      for (int stride : {1, 2}) {
        const Axis axis = pad_axis(Padding::symmetric, in, k, stride);
        EXPECT_EQ(axis.before, k / 2);
        EXPECT_EQ(axis.after, k / 2);
        int windows = 0;
        while (windows * stride + k <= in + 2 * (k / 2)) ++windows;
        EXPECT_EQ(axis.out, windows);
      }
    }
  }
}

TEST(Views, SizesAndBytes) {
  float memory = 0;
  const Tensor f32{&memory, DType::f32, 2, 7, 5, 24}, bf16{&memory, DType::bf16, 2, 7, 5, 24};
  EXPECT_EQ(f32.rows(), 70);
  EXPECT_EQ(f32.size(), 1680);
  EXPECT_EQ(f32.bytes(), 6720u);
  EXPECT_EQ(bf16.bytes(), 3360u);
  EXPECT_EQ(bytes_of(Tensor{nullptr, DType::f32, 2, 7, 5, 24}), 0);
  EXPECT_EQ(round_up_8(1001), 1008);
  EXPECT_EQ(round_up_8(8), 8);
  EXPECT_EQ(round_up_8(1), 8);
}

#ifndef TUNAS_CUDA
TEST(Dispatch, CudaWithoutCudaSaysWhatToDo) {
  try {
    kernels::gate(Stream{Kind::cuda, nullptr}, {});
    FAIL() << "a CUDA stream ran without CUDA";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::usage);
    EXPECT_STREQ(error.what(), "this tunas was built without CUDA; use --device cpu");
  }
}
#endif

TEST(Dispatch, DryStreamsAddUp) {
  float memory[16];
  kernels::GateForward args;
  args.x = args.gate = {memory, DType::f32, 2, 1, 1, 8};
  Tally tally;
  kernels::gate({Kind::dry, &tally}, args);
  kernels::gate({Kind::dry, &tally}, args);
  EXPECT_EQ(tally.calls, 2);
  EXPECT_EQ(tally.cost.bytes(), 2 * 128);
}

}  // namespace
}  // namespace tunas

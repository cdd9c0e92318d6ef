// The kernels against what TensorFlow itself computes (tests/golden/tensorflow.json): SAME padding,
// batch normalisation in training mode, softmax cross-entropy, RMSProp.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/conv.h"
#include "kernels/depthwise.h"
#include "kernels/mix.h"
#include "kernels/norm.h"
#include "kernels/softmax_xent.h"
#include "kernels/update.h"
#include "tests/support/memory.h"
#include "tests/support/reference.h"

namespace tunas::test {
namespace {

using Json = nlohmann::json;

const Json& golden() {
  static const Json json = [] {
    std::ifstream file(TUNAS_SOURCE_DIR "/tests/golden/tensorflow.json");
    return Json::parse(file);
  }();
  return json;
}

Values data(const Json& tensor) { return tensor["data"].get<Values>(); }

/// The entry of a list whose fields have these values.
const Json& find(const Json& list, const Json& fields) {
  for (const Json& entry : list) {
    bool all = true;
    for (const auto& [key, value] : fields.items()) all &= entry[key] == value;
    if (all) return entry;
  }
  throw std::out_of_range("no entry with " + fields.dump());
}

Values depthwise_same(const Values& image, const Values& w, int size, int k, int stride) {
  const Axis axis = pad_axis(Padding::same, size, k, stride);
  const Guarded x(image), y(static_cast<std::size_t>(axis.out) * axis.out * 8);
  const StoredFilter filter({1, 1}, {8, 8}, k, w);
  Cpu cpu;
  kernels::DepthwiseForward args;
  args.x.y = {x.data(), DType::f32, 1, size, size, 8};
  args.w = filter.view();
  args.stride = stride;
  args.top = args.left = axis.before;
  args.y = {y.data(), DType::f32, 1, axis.out, axis.out, 8};
  kernels::depthwise(cpu.stream(), args);
  return y.values();
}

/// Three channels into four and a border of 3; HWIO weights into [out][k][k][4].
Values conv_same(const Values& image, const Values& w, int size, int k, int stride) {
  constexpr int kBorder = 3;
  const int side = size + 2 * kBorder;
  Values padded(static_cast<std::size_t>(side) * side * 4), filter_values(8ul * k * k * 4);
  for (int i = 0; i < size * size * 3; ++i) {
    const int row = i / 3 / size + kBorder, column = i / 3 % size + kBorder;
    padded[(row * side + column) * 4 + i % 3] = image[i];
  }
  for (int i = 0; i < k * k * 3 * 8; ++i) {
    filter_values[((i % 8) * k * k + i / 24) * 4 + i / 8 % 3] = w[i];
  }
  const Axis axis = pad_axis(Padding::same, size, k, stride);
  const Guarded x(padded), y(static_cast<std::size_t>(axis.out) * axis.out * 8);
  const StoredFilter filter({8, 8}, {4, 4}, k, filter_values);
  Cpu cpu;
  kernels::ConvForward args;
  args.image = {x.data(), DType::f32, 1, side, side, 4};
  args.w = filter.view();
  args.stride = stride;
  args.top = args.left = kBorder - axis.before;
  args.y = {y.data(), DType::f32, 1, axis.out, axis.out, 8};
  kernels::conv(cpu.stream(), args);
  return y.values();
}

TEST(TensorFlow, SamePadding) {
  const Json& section = golden()["same_padding"];
  ASSERT_EQ(section["cases"].size(), 60u);
  for (const Json& c : section["cases"]) {
    const std::string op = c["op"];
    const int size = c["size"], k = c["k"], stride = c["stride"];
    SCOPED_TRACE(op + " size=" + std::to_string(size) + " k=" + std::to_string(k) +
                 " stride=" + std::to_string(stride));
    const bool depthwise = op == "depthwise_conv2d";
    const Values image =
        data(find(section["inputs"], {{"size", size}, {"c", depthwise ? 8 : 3}})["x"]);
    const Values w = data(find(section["weights"], {{"op", op}, {"k", k}})["w"]);
    const Values y = depthwise ? depthwise_same(image, w, size, k, stride)
                               : conv_same(image, w, size, k, stride);
    expect_equal({{"y", y}}, {{"y", data(c["y"])}});
  }
}

// mean and variance as a convolution leaves them, norm, then mix writes the normalised tensor.
TEST(TensorFlow, FusedBatchNorm) {
  for (const Json& c : golden()["fused_batch_norm"]) {
    const auto shape = c["x"]["shape"].get<std::vector<int>>();
    const int channels = shape[3];
    const Values x_values = data(c["x"]);
    const reference::Moments moments = reference::moments(x_values, channels);
    const Guarded x(x_values), mean(moments.mean), variance(moments.variance),
        gamma(c["scale"].get<Values>()), beta(c["shift"].get<Values>()), inv_std(channels),
        scale(channels), shift(channels), running_mean(Values(channels, 0.0)),
        running_variance(Values(channels, 0.0)), y(x_values.size());
    kernels::NormForward norm{channels,
                              static_cast<long>(x_values.size()) / channels,
                              c["epsilon"].get<float>(),
                              gamma.data(),
                              beta.data(),
                              mean.data(),
                              variance.data(),
                              inv_std.data(),
                              scale.data(),
                              shift.data()};
    norm.momentum = 0;  // the running averages become what the operator returns
    norm.running_mean = running_mean.data();
    norm.running_variance = running_variance.data();
    Cpu cpu;
    kernels::norm(cpu.stream(), norm);
    kernels::MixForward mix;
    mix.terms = 1;
    mix.weight[0] = 1;
    mix.x[0] = {
        {x.data(), DType::f32, shape[0], shape[1], shape[2], channels}, scale.data(), shift.data()};
    mix.out = mix.x[0].y;
    mix.out.data = y.data();
    kernels::mix(cpu.stream(), mix);
    expect_close("y", y.values(), data(c["y"]), 2e-6);
    expect_close("mean", running_mean.values(), c["mean"].get<Values>(), 2e-6);
    expect_close("variance", running_variance.values(), c["variance"].get<Values>(), 2e-6);
  }
}

TEST(TensorFlow, SoftmaxXent) {
  for (const Json& c : golden()["softmax_xent"]) {
    const auto shape = c["logits"]["shape"].get<std::vector<int>>();
    const int n = shape[0], classes = shape[1], stride = round_up_8(classes);
    const Values values = data(c["logits"]);
    const auto labels = c["labels"].get<std::vector<std::int32_t>>();
    const Guarded logits(static_cast<std::size_t>(n) * stride), loss(n);
    for (std::size_t i = 0; i < values.size(); ++i) {
      logits.data()[i / classes * stride + i % classes] = static_cast<float>(values[i]);
    }
    std::vector<std::int32_t> rank(n);
    const Tensor tensor{logits.data(), DType::f32, n, 1, 1, stride};
    Cpu cpu;
    kernels::softmax_xent(cpu.stream(),
                          {tensor, classes, labels.data(), c["smoothing"].get<float>(), loss.data(),
                           rank.data(), tensor});
    double mean = 0;
    for (double value : loss.values()) mean += value / n;
    EXPECT_NEAR(mean, c["loss"].get<double>(), 2e-6 * mean);
    Values gradient;
    for (std::size_t i = 0; i < values.size(); ++i) {
      gradient.push_back(logits.data()[i / classes * stride + i % classes]);
    }
    expect_close("gradient", gradient, data(c["gradient"]), 2e-6);
  }
}

TEST(TensorFlow, RmsProp) {
  for (const Json& trace : golden()["rms_prop"]) {
    SCOPED_TRACE(trace["name"].get<std::string>());
    const auto start = trace["initial"].get<Values>();
    const Guarded w(start), ms(Values(start.size(), 1.0)), mom(Values(start.size(), 0.0));
    Cpu cpu;
    for (const Json& step : trace["steps"]) {
      const Guarded grad(step["grad"].get<Values>());
      kernels::rms_prop(cpu.stream(),
                        {start.size(), grad.data(), w.data(), ms.data(), mom.data(), 1,
                         step["lr"].get<float>(), trace["decay"].get<float>(),
                         trace["momentum"].get<float>(), trace["epsilon"].get<float>()});
      for (std::size_t i = 0; i < start.size(); ++i) {
        EXPECT_NEAR(w.data()[i], step["w"][i].get<double>(), 2e-6);
        EXPECT_NEAR(ms.data()[i], step["ms"][i].get<double>(), 2e-6);
        EXPECT_NEAR(mom.data()[i], step["mom"][i].get<double>(), 2e-6);
      }
    }
  }
}

}  // namespace
}  // namespace tunas::test

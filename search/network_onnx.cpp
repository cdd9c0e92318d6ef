#include "search/network_onnx.h"

#include <fmt/format.h>

#include <cmath>

#include "engine/onnx.h"
#include "kernels/error.h"
#include "search/arch.h"
#include "search/weights.h"

namespace tunas::search {
namespace {

using engine::OnnxGraph;
using Value = OnnxGraph::Value;
using Ints = OnnxGraph::Ints;
using Floats = std::vector<float>;

/// How a convolution is applied.
struct Window {
  int kernel = 1, stride = 1, in_resolution = 1;
  bool depthwise = false;
};

/// A kernel as ONNX has it, [o][i][k][k], with its bias.
struct Folded {
  Ints shape;
  Floats kernel, bias;
};

class Writer {
 public:
  explicit Writer(const OnnxExport& args) : args_(args), graph_(args.network.name) {}

  OnnxGraph& graph() { return graph_; }

  Value layer(const PlanLayer& layer, const Value& x) {
    switch (layer.spec->kind) {
      case LayerKind::conv:
        return conv(path(layer), x, layer);
      case LayerKind::activation:
        return activation(layer.spec->act, x);
      case LayerKind::global_pool:
        return graph_.node("GlobalAveragePool", {x});
      case LayerKind::separable:
      case LayerKind::bottleneck:
        return residual(layer, x, mobile(layer, x));
      case LayerKind::endpoint:
        break;
    }
    return x;
  }

  void classifier(const Value& x) {
    const Floats w = dense("classifier/kernel"), b = dense("classifier/bias");
    const auto classes = static_cast<std::int64_t>(b.size());
    const auto channels = static_cast<std::int64_t>(w.size()) / classes;
    const Value flat = graph_.node("Flatten", {x});
    graph_.node("Gemm",
                {flat, constant("classifier/kernel", {classes, channels}, w),
                 constant("classifier/bias", {classes}, b)},
                {{"transB", std::int64_t{1}}}, "logits");
    graph_.output("logits", {"batch", std::to_string(classes)});
  }

 private:
  static std::string path(const PlanLayer& layer) {
    return "blocks/" + std::to_string(layer.block) + "/layers/" + std::to_string(layer.layer);
  }

  Floats dense(const std::string& name) const {
    const engine::Param* param = args_.params.find(name);
    require(param != nullptr, "parameter ", name, " is not registered");
    return read_dense(args_.params, *param);
  }

  Value constant(const std::string& name, const Ints& shape, const Floats& values) {
    for (const float v : values) {
      if (!std::isfinite(v)) {
        fail(Exit::numeric, name, " of ", args_.network.name,
             " is not finite once its batch norm is folded in; train the weights again");
      }
    }
    return graph_.constant(name, shape, values);
  }

  /// The kernel of `at` turned to [o][i][k][k], its norm folded in or its bias beside it.
  Folded fold(const std::string& at, bool depthwise) const {
    const engine::Param& param = *args_.params.find(at + "/kernel");
    const Floats w = dense(at + "/kernel");
    const auto k = static_cast<std::size_t>(param.weight.k), taps = k * k;
    const auto last = static_cast<std::size_t>(param.shape.back());
    const std::size_t out = depthwise ? last : static_cast<std::size_t>(param.weight.out);
    const std::size_t in = depthwise ? 1 : last;
    const std::vector<double> scale = scales(at, out);
    Folded folded{{static_cast<std::int64_t>(out), static_cast<std::int64_t>(in),
                   static_cast<std::int64_t>(k), static_cast<std::int64_t>(k)},
                  Floats(w.size()),
                  {}};
    std::size_t to = 0;
    for (std::size_t o = 0; o < out; ++o) {
      for (std::size_t i = 0; i < in; ++i) {
        for (std::size_t t = 0; t < taps; ++t) {
          const std::size_t from = depthwise ? t * out + o : (o * taps + t) * in + i;
          folded.kernel[to++] = static_cast<float>(w[from] * scale[o]);
        }
      }
    }
    folded.bias = bias(at, scale);
    return folded;
  }

  bool normed(const std::string& at) const { return args_.params.find(at + "/norm/gamma"); }

  std::vector<double> scales(const std::string& at, std::size_t out) const {
    std::vector<double> scale(out, 1.0);
    if (!normed(at)) return scale;
    const Floats gamma = dense(at + "/norm/gamma"), variance = dense(at + "/norm/variance");
    for (std::size_t o = 0; o < out; ++o) {
      scale[o] = gamma[o] / std::sqrt(variance[o] + args_.network.bn_epsilon);
    }
    return scale;
  }

  Floats bias(const std::string& at, const std::vector<double>& scale) const {
    if (!normed(at)) return dense(at + "/bias");
    const Floats beta = dense(at + "/norm/beta"), mean = dense(at + "/norm/mean");
    Floats bias(beta.size());
    for (std::size_t o = 0; o < bias.size(); ++o) {
      bias[o] = static_cast<float>(beta[o] - mean[o] * scale[o]);
    }
    return bias;
  }

  Value conv(const std::string& at, const Value& x, const Window& window) {
    const Folded folded = fold(at, window.depthwise);
    const Axis axis =
        pad_axis(args_.network.padding, window.in_resolution, window.kernel, window.stride);
    const Ints pads = {axis.before, axis.before, axis.after, axis.after};
    const std::int64_t groups = window.depthwise ? folded.shape[0] : 1;
    return graph_.node("Conv",
                       {x, constant(at + "/kernel", folded.shape, folded.kernel),
                        constant(at + "/bias", {folded.shape[0]}, folded.bias)},
                       {{"group", groups},
                        {"kernel_shape", Ints{window.kernel, window.kernel}},
                        {"pads", pads},
                        {"strides", Ints{window.stride, window.stride}}});
  }

  /// A conv layer: the only k x k one has the images' resolution.
  Value conv(const std::string& at, const Value& x, const PlanLayer& layer) {
    const int k = layer.kernels.front().k;
    return conv(at + "/conv_" + std::to_string(k), x,
                Window{k, layer.spec->stride, layer.in_resolution, false});
  }

  Value activation(Act act, const Value& x) {
    switch (act) {
      case Act::none:
        return x;
      case Act::relu:
        return graph_.node("Relu", {x});
      case Act::relu6:
        return graph_.node("Clip", {x, scalar("zero", 0), scalar("six", 6)});
      case Act::hard_swish:
        return graph_.node("HardSwish", {x});
      case Act::sigmoid:
        return graph_.node("Sigmoid", {x});
      case Act::hard_sigmoid:
        return graph_.node("HardSigmoid", {x}, {{"alpha", 1.0f / 6}, {"beta", 0.5f}});
    }
    return x;
  }

  Value scalar(const std::string& name, float value) {
    for (const std::string& known : scalars_) {
      if (known == name) return name;
    }
    scalars_.push_back(name);
    return constant(name, {}, {value});
  }

  Value mobile(const PlanLayer& layer, const Value& x) {
    const Layer& spec = *layer.spec;
    const std::string at = path(layer), k = fmt::format("_{}", layer.kernels.front().k);
    const bool expands = spec.kind == LayerKind::bottleneck;
    Value y = x;
    if (expands) {
      y = activation(spec.act, conv(at + "/expand", y, Window{}));
    }
    y = conv(at + "/depthwise" + k, y,
             Window{layer.kernels.front().k, spec.stride, layer.in_resolution, true});
    y = activation(spec.act, y);
    if (expands && layer.squeeze_excite > 0) y = gated(at + "/squeeze_excite", y, spec.gate);
    const bool one = expands || spec.shared_pointwise;
    return conv(at + (one ? "/project" : "/project" + k), y, Window{});
  }

  Value gated(const std::string& at, const Value& x, Act gate) {
    const Value mean = graph_.node("GlobalAveragePool", {x});
    const Value hidden = activation(Act::relu, conv(at + "/reduce", mean, Window{}));
    return graph_.node("Mul", {x, activation(gate, conv(at + "/expand", hidden, Window{}))});
  }

  Value residual(const PlanLayer& layer, const Value& x, const Value& y) {
    return layer.spec->residual ? graph_.node("Add", {y, x}) : y;
  }

  const OnnxExport& args_;
  OnnxGraph graph_;
  std::vector<std::string> scalars_;
};

}  // namespace

void write_onnx(const OnnxExport& args, const std::string& file) {
  const Space& network = args.network;
  const Plan plan = resolve(network, Arch::largest(network), network.resolution);
  Writer writer(args);
  const std::string side = std::to_string(network.resolution);
  Value x = writer.graph().input("input", {"batch", "3", side, side});
  for (const PlanLayer& layer : plan.layers) x = writer.layer(layer, x);
  writer.classifier(x);
  writer.graph().metadata("name", network.name);
  for (const auto& [key, value] : args.metadata) writer.graph().metadata(key, value);
  writer.graph().write(file, args.version);
}

}  // namespace tunas::search

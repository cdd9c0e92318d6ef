// Networks as ONNX files: what ONNX Runtime makes of them is what this program makes of them. Needs
// a Python with onnx, onnxruntime and numpy, named by ONNX_PYTHON.
#include "search/network_onnx.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/file.h"
#include "kernels/error.h"
#include "search/weights.h"
#include "tests/search/formula.h"

namespace tunas::search {
namespace {

Arch random_arch(const Space& space, std::uint64_t seed) {
  Arch arch;
  for (std::size_t d = 0; d < space.decisions.size(); ++d) {
    const auto options = static_cast<float>(space.decisions[d].options.size());
    arch.values.push_back(static_cast<std::int8_t>((noise(seed, d) + 1) / 2 * options));
  }
  return arch;
}

/// Weights and statistics by formula under our names.
void fill(engine::ParamStore& params) {
  for (const engine::Param& param : params.params()) {
    const bool depthwise = param.weight.out == 1 && param.shape.size() == 3;
    const auto taps = static_cast<std::size_t>(param.weight.k * param.weight.k);
    write_dense(params, param,
                weight_values(param.name, param.shape, depthwise ? taps : std::size_t{0}));
  }
}

class NetworkOnnx : public testing::Test {
 protected:
  void SetUp() override {
    const char* python = std::getenv("ONNX_PYTHON");
    if (python == nullptr) GTEST_SKIP() << "ONNX_PYTHON names no Python with onnxruntime";
    python_ = python;
  }

  /// |ours - ONNX Runtime's| / |ours| on two random images; NaN where it fails.
  double difference(Space space, int resolution) {
    space.resolution = resolution;
    const FormulaImages images(resolution, {1, 2});
    const auto network = evaluation_network(device_, space, images);
    fill(network->params());
    const auto keep = [&](const char* name, const std::vector<float>& values) {
      engine::write_file(folder_.path(name), {reinterpret_cast<const char*>(values.data()),
                                              values.size() * sizeof(float)});
    };
    keep("input", images.planes());
    keep("logits", logits(*network, images));
    write_onnx({space, network->params(), {{"mean", "0.5,0.5,0.5"}}, "test"},
               folder_.path("n.onnx"));
    const std::string command = python_ + " " TUNAS_SOURCE_DIR "/tests/search/check_onnx.py " +
                                folder_.path("n.onnx") + " " + folder_.path("input") + " " +
                                folder_.path("logits") + " >" + folder_.path("out");
    if (std::system(command.c_str()) != 0) return NAN;
    return std::stod(engine::read_file(folder_.path("out")));
  }

  std::string python_;
  engine::Device device_ = engine::Device::cpu(2);
  TestFolder folder_{"tunas_onnx"};
};

TEST_F(NetworkOnnx, ReferenceNetworksAreOnnxRuntimes) {
  for (const char* name : {"mobilenet_v2", "mobilenet_v3_large", "mnasnet_b1"}) {
    EXPECT_LT(difference(Space::named(name), 224), 1e-4) << name;
  }
  Space symmetric = Space::named("mobilenet_v3_large");
  symmetric.padding = Padding::symmetric;
  symmetric.bn_epsilon = 1e-5;
  symmetric.classes = 11;
  for (Block& block : symmetric.blocks) {
    for (Layer& layer : block.layers) {
      if (layer.act == Act::relu) layer.act = Act::relu6;
      layer.gate = Act::hard_sigmoid;
    }
  }
  EXPECT_LT(difference(symmetric, 72), 1e-4) << "symmetric padding, ReLU6, hard gates";
}

TEST_F(NetworkOnnx, NetworksOfThePublishedSpacesAreOnnxRuntimes) {
  for (const char* name :
       {"proxylessnas_search", "proxylessnas_enlarged_search", "mobilenet_v3_like_search"}) {
    const Space space = Space::named(name);
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
      const Arch arch = random_arch(space, seed);
      EXPECT_LT(difference(space.only(arch), 104), 1e-4) << name << " " << arch.indices();
    }
  }
}

TEST(NetworkOnnxFile, WeightsThatAreNotFiniteAreRefused) {
  const TestFolder folder("tunas_onnx");
  const engine::Device device = engine::Device::cpu(1);
  const Space space = Space::named("mobilenet_v2").scaled(0.25);
  Model model(device, space);
  fill(model.params);
  const engine::Param& variance = *model.params.find("blocks/1/layers/0/project/norm/variance");
  std::vector<float> values = read_dense(model.params, variance);
  values[3] = -1;
  write_dense(model.params, variance, values);
  try {
    write_onnx({space, model.params}, folder.path("n.onnx"));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::numeric);
    EXPECT_NE(std::string(error.what()).find("blocks/1/layers/0/project"), std::string::npos);
  }
  EXPECT_FALSE(std::filesystem::exists(folder.path("n.onnx")));
}

}  // namespace
}  // namespace tunas::search

// Weights under other programs' names: networks compute what PyTorch computes with them (golden
// values of tests/golden/make_foreign_golden.py), what goes out comes back bit for bit, and a file
// that does not fit is refused by name.
#include "search/foreign_weights.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "search/family.h"
#include "search/net_config.h"
#include "tests/search/formula.h"
#include "tests/support/shared_data.h"

namespace tunas::search {
namespace {

using engine::Safetensors;
using engine::Shape;
using Json = nlohmann::json;

const Json& golden() {
  static const Json all = [] {
    std::ifstream in(TUNAS_SOURCE_DIR "/tests/golden/foreign.json");
    return Json::parse(in);
  }();
  return all;
}

std::vector<double> flat(const Json& rows) {
  std::vector<double> all;
  for (const Json& row : rows) {
    for (const Json& value : row) all.push_back(value.get<double>());
  }
  return all;
}

/// Tensors for a file, to be changed before it is written.
struct Tensors {
  std::map<std::string, Shape> shapes;
  std::map<std::string, std::vector<float>> values;

  explicit Tensors(const Json& of) {
    for (const auto& [name, shape] : of.items()) {
      shapes[name] = shape.get<Shape>();
      if (!name.ends_with("num_batches_tracked")) values[name] = weight_values(name, shapes[name]);
    }
  }
  void remove(const std::string& name) {
    ASSERT_EQ(shapes.erase(name), 1u) << name;
    values.erase(name);
  }
  void write(const std::string& file, const std::map<std::string, std::string>& metadata = {}) {
    const std::int64_t batches = 7;
    std::vector<engine::StoredTensor> stored;
    for (const auto& [name, shape] : shapes) {
      const bool counter = name.ends_with("num_batches_tracked");
      const void* data = counter ? static_cast<const void*>(&batches) : values[name].data();
      stored.push_back({name, counter ? "I64" : "F32", shape, data});
    }
    engine::write_safetensors(file, stored, metadata);
  }
};

/// The file holds just these tensors.
void expect_same(const std::string& file, const Tensors& tensors) {
  const Safetensors written(file);
  EXPECT_EQ(written.entries().size(), tensors.shapes.size());
  for (const auto& [name, shape] : tensors.shapes) {
    const Safetensors::Entry* entry = written.find(name);
    ASSERT_NE(entry, nullptr) << name;
    EXPECT_EQ(entry->shape, shape) << name;
    if (entry->type == "I64") continue;
    EXPECT_EQ(written.read_floats(name), tensors.values.at(name)) << name;
  }
}

class ForeignWeights : public testing::Test {
 protected:
  /// `model` of the golden file as our network.
  static Space network_of(const Json& model, const std::string& file) {
    const Safetensors weights(file);
    const Family family = family_of(weights).value();
    Space space = *family.reference
                      ? fitted(Space::named(family.reference), Origin::reference, weights)
                      : fitted(parse_net_config(model["net_config"].dump(), "net.config"),
                               Origin::file, weights);
    space.resolution = model["resolution"];
    return space;
  }

  std::string refusal(const Space& space, const std::string& file) {
    Model model(device_, space);
    try {
      load_weights_any(model.params, space, file);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::data);
      return error.what();
    }
    return "";
  }

  engine::Device device_ = engine::Device::cpu(2);
  TestFolder folder_{"tunas_foreign"};
};

TEST_F(ForeignWeights, EveryKnownNetworkComputesWhatPyTorchComputes) {
  const std::string file = folder_.path("w.safetensors");
  for (const auto& [name, model] : golden()["models"].items()) {
    Tensors(model["shapes"]).write(file);
    EXPECT_EQ(name.rfind(family_of(Safetensors(file)).value().name, 0), 0u) << name;
    const Space space = network_of(model, file);
    EXPECT_EQ(space.classes, 24);
    EXPECT_EQ(Space::parse(space.json(), name), space) << "it can be kept in a file";
    const FormulaImages images(space.resolution, {1, 2});
    const auto network = evaluation_network(device_, space, images);
    const WeightsReport report = load_weights_any(*network, file);
    EXPECT_EQ(report.read + report.ignored.size(), model["shapes"].size()) << name;
    EXPECT_LT(difference(logits(*network, images), flat(model["logits"])), 2e-5) << name;
  }
}

TEST_F(ForeignWeights, PublishedFilesComputeWhatPyTorchComputes) {
  TUNAS_NEED_SHARED(shared, "weights");
  for (const auto& [name, model] : golden()["files"].items()) {
    const bool symmetric = name.ends_with(" symmetric");
    const std::string file = shared + "/" + name.substr(0, name.find(' ')) + ".safetensors";
    const Safetensors weights(file);
    const Family family = family_of(weights).value();
    EXPECT_EQ(family.images.resolution, model["resolution"]) << name;
    EXPECT_EQ(family.images.mean[1], 0.5) << name;
    Space space;
    if (name.starts_with("proxyless")) {
      std::ifstream in(shared + "/proxyless-w0.3-r176_arch.json");
      const std::string text{std::istreambuf_iterator<char>(in), {}};
      space = fitted(parse_net_config(text, "arch"), Origin::file, weights);
      EXPECT_EQ(family.images.resize, 201);
    } else {
      space = fitted(Space::named("mobilenet_v2"), Origin::reference, weights);
      EXPECT_EQ(space.padding, Padding::same) << "its metadata say so";
      if (symmetric) space.padding = Padding::symmetric;
    }
    const FormulaImages images(space.resolution, {3});
    const auto network = evaluation_network(device_, space, images);
    load_weights_any(*network, file);
    EXPECT_LT(difference(logits(*network, images), flat(model["logits"])), 2e-5) << name;
  }
}

TEST_F(ForeignWeights, WhatGoesOutHasTheirNamesAndComesBackBitForBit) {
  const std::string in = folder_.path("in.safetensors"), out = folder_.path("out.safetensors");
  for (const auto& [name, given] : golden()["models"].items()) {
    Tensors tensors(given["shapes"]);
    tensors.write(in);
    const Space space = network_of(given, in);
    Model model(device_, space), again(device_, space);
    const Scheme scheme = load_weights_any(model.params, space, in).scheme;
    save_foreign_weights(model.params, space, scheme, out, {});
    if (scheme != Scheme::ofa) expect_same(out, tensors);  // its blocks are numbered without gaps
    load_weights_any(again.params, space, out);
    for (const engine::Param& param : model.params.params()) {
      EXPECT_EQ(read_dense(model.params, param), read_dense(again.params, param)) << param.name;
    }
  }
}

TEST_F(ForeignWeights, ANetworkThatTorchvisionDoesNotHaveIsRefused) {
  const Space wide = Space::named("mobilenet_v2").scaled(1.5);
  Model model(device_, wide);
  try {
    save_foreign_weights(model.params, wide, Scheme::torchvision_v2, folder_.path("w"), {});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("another shape than mobilenet_v2"), std::string::npos)
        << error.what();
  }
  EXPECT_FALSE(std::filesystem::exists(folder_.path("w")));
}

TEST_F(ForeignWeights, AFileThatDoesNotFitIsRefusedByName) {
  const Json& model = golden()["models"]["torchvision/mobilenet_v2"];
  const std::string file = folder_.path("w.safetensors");
  Tensors(model["shapes"]).write(file);
  const Space space = network_of(model, file);
  const auto refused = [&](const char* what) {
    const std::string sentence = refusal(space, file);
    EXPECT_EQ(sentence.rfind(file + ":", 0), 0u) << sentence;
    EXPECT_NE(sentence.find(what), std::string::npos) << what << "\nin " << sentence;
  };
  Tensors missing(model["shapes"]);
  missing.remove("features.3.conv.0.0.weight");
  missing.remove("features.3.conv.3.running_var");
  missing.write(file);
  refused("; missing: features.3.conv.0.0.weight, features.3.conv.3.running_var;");

  Tensors added(model["shapes"]);
  added.shapes["features.2.conv.4.weight"] = {2};
  added.values["features.2.conv.4.weight"] = {1, 2};
  added.write(file);
  refused("; of no layer: features.2.conv.4.weight;");

  Tensors other(model["shapes"]);
  other.shapes["features.1.conv.0.0.weight"] = {32, 1, 9, 1};
  other.write(file);
  refused("features.1.conv.0.0.weight [32, 1, 9, 1] instead of [32, 1, 3, 3]");

  Tensors(golden()["models"]["torchvision/mobilenet_v3_large"]["shapes"]).write(file);
  refused("has 15 inverted residuals, but mobilenet_v2 has 17");

  const float x[1] = {1};
  engine::write_safetensors(file, {{"model.weight", "F32", {1}, x}});
  refused("(model.weight, ...) have no names that are known");
}

TEST_F(ForeignWeights, NormsWithoutScaleOrFoldedAwayAreMadeUp) {
  const Json& model = golden()["models"]["torchvision/mobilenet_v2"];
  const std::string file = folder_.path("w.safetensors");
  const std::string plain = "features.0.1", folded = "features.18.1", biased = "features.2.conv.3";
  Tensors tensors(model["shapes"]);
  tensors.remove(plain + ".weight");
  tensors.remove(plain + ".bias");
  for (const char* part :
       {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}) {
    tensors.remove(folded + "." + part);
  }
  tensors.shapes["features.18.0.bias"] = {1280};
  tensors.values["features.18.0.bias"] = std::vector<float>(1280, 0.5f);
  tensors.shapes["features.2.conv.2.bias"] = {24};
  tensors.values["features.2.conv.2.bias"] = std::vector<float>(24, 0.25f);
  tensors.write(file);
  const Space space = network_of(model, file);
  Model read(device_, space);
  const WeightsReport report = load_weights_any(read.params, space, file);
  ASSERT_EQ(report.assumed.size(), 2u);
  EXPECT_EQ(report.assumed[0].rfind(plain, 0), 0u);
  EXPECT_EQ(report.assumed[1].rfind("features.18.0", 0), 0u);
  const auto values = [&](const std::string& name) {
    return read_dense(read.params, *read.params.find(name));
  };
  EXPECT_EQ(values("blocks/0/layers/0/conv_3/norm/gamma"), std::vector<float>(32, 1.0f));
  EXPECT_EQ(values("blocks/0/layers/0/conv_3/norm/beta"), std::vector<float>(32, 0.0f));
  EXPECT_EQ(values("blocks/8/layers/0/conv_1/norm/beta"), std::vector<float>(1280, 0.5f));
  EXPECT_EQ(values("blocks/8/layers/0/conv_1/norm/mean"), std::vector<float>(1280, 0.0f));
  const float neutral = static_cast<float>(1 - space.bn_epsilon);
  EXPECT_EQ(values("blocks/8/layers/0/conv_1/norm/variance"), std::vector<float>(1280, neutral));
  std::vector<float> mean = tensors.values[biased + ".running_mean"];
  for (float& m : mean) m -= 0.25f;
  EXPECT_EQ(values("blocks/2/layers/0/project/norm/mean"), mean);
}

TEST_F(ForeignWeights, OurOwnFilesAreRead) {
  const Space space = Space::named("mobilenet_v3_large").scaled(0.25);
  Model model(device_, space), again(device_, space);
  model.params.init(5);
  save_weights(model.params, folder_.path("own"), {});
  EXPECT_EQ(load_weights_any(again.params, space, folder_.path("own")).scheme, Scheme::own);
  for (const engine::Param& param : model.params.params()) {
    EXPECT_EQ(read_dense(model.params, param), read_dense(again.params, param)) << param.name;
  }
}

TEST(Family, MetadataGoBeforeTheFamily) {
  const TestFolder folder("tunas_family");
  const std::string file = folder.path("w.safetensors");
  Tensors tensors(golden()["models"]["timm/mobilenetv3_large_100"]["shapes"]);
  tensors.write(file);
  const Family usual = family_of(Safetensors(file)).value();
  EXPECT_STREQ(usual.name, "timm/mobilenetv3_large_100");
  EXPECT_EQ(usual.images.resize, 256);
  EXPECT_EQ(usual.images.interpolation, Resample::bicubic);
  EXPECT_FLOAT_EQ(preprocess_of(usual.images).normalization.mean[2], 103.53f);

  tensors.write(file, {{"bn_eps", "0.002"},
                       {"padding", "tensorflow SAME"},
                       {"resolution", "192"},
                       {"mean", "0.5, 0.25,0"},
                       {"interpolation", "bilinear"}});
  const Family said = family_of(Safetensors(file)).value();
  EXPECT_EQ(said.bn_epsilon, 0.002);
  EXPECT_EQ(said.padding, Padding::same);
  EXPECT_EQ(said.images.resolution, 192);
  EXPECT_EQ(said.images.resize, 219);
  EXPECT_EQ(said.images.mean[1], 0.25);
  EXPECT_EQ(said.images.interpolation, Resample::bilinear);
  const Space net =
      fitted(Space::named("mobilenet_v3_large"), Origin::reference, Safetensors(file));
  EXPECT_EQ(net.padding, Padding::same);
  EXPECT_EQ(net.bn_epsilon, 0.002);
  EXPECT_EQ(net.blocks[2].layers[0].gate, Act::hard_sigmoid);
  EXPECT_EQ(net.classes, 24);

  for (const auto& [key, value] : {std::pair{"bn_eps", "small"},
                                   {"mean", "0.5,0.5"},
                                   {"std", "1,1,0"},
                                   {"resolution", "224x224"},
                                   {"resolution", "180"}}) {
    tensors.write(file, {{key, value}});
    EXPECT_THROW(family_of(Safetensors(file)), Error) << key;
  }
}

TEST(Family, OurOwnFileOfImportedWeightsSaysTheSame) {
  const TestFolder folder("tunas_family");
  const std::string file = folder.path("w.safetensors");
  const float x[2] = {1, 2};
  const std::vector<engine::StoredTensor> tensors = {{"classifier/bias", "F32", {2}, x},
                                                     {"classifier/kernel", "F32", {2}, x}};
  engine::write_safetensors(file, tensors);
  EXPECT_FALSE(family_of(Safetensors(file)).has_value());
  for (const Family& family : families()) {
    engine::write_safetensors(file, tensors, metadata_of(family));
    const Family read = family_of(Safetensors(file)).value();
    EXPECT_STREQ(read.name, family.name);
    EXPECT_EQ(metadata_of(read), metadata_of(family));
  }
}

}  // namespace
}  // namespace tunas::search

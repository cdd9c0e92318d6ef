// Weights and architectures in and out, as users do it: tunas import, tunas export, tunas arch
// export.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/safetensors.h"
#include "search/weights.h"
#include "tests/tools/program.h"

namespace tunas::tools {
namespace {

using engine::Safetensors;
using Json = nlohmann::json;

Json golden_model(const std::string& name) {
  std::ifstream in(TUNAS_SOURCE_DIR "/tests/golden/foreign.json");
  return Json::parse(in)["models"][name];
}

class ExchangeTest : public ProgramTest {
 protected:
  /// A file with the tensors of a model of the golden file, all of them 0.5 but for their counters.
  void write_model(const std::string& model, const std::string& file) const {
    const std::int64_t counter = 3;
    std::vector<float> half(2'000'000, 0.5f);
    std::vector<engine::StoredTensor> tensors;
    const Json shapes = golden_model(model)["shapes"];
    for (const auto& [name, shape] : shapes.items()) {
      const bool count = name.ends_with("num_batches_tracked");
      tensors.push_back({name, count ? "I64" : "F32", shape.get<engine::Shape>(),
                         count ? static_cast<const void*>(&counter) : half.data()});
    }
    engine::write_safetensors(file, tensors);
  }

  /// The weights of a freshly made network, in this program's names.
  void write_weights(const search::Space& network, const std::string& file) const {
    const engine::Device device = engine::Device::cpu(1);
    search::Model model(device, network);
    model.params.init(3);
    search::save_weights(model.params, file, {});
  }

  Json json(const std::string& file) const { return Json::parse(engine::read_file(path(file))); }
};

TEST_F(ExchangeTest, ImportedWeightsComeWithTheirNetwork) {
  write_model("torchvision/mobilenet_v3_large", path("tv.safetensors"));
  const Result made = run("import " + path("tv.safetensors") + " -o " + path("net") + " --json");
  ASSERT_EQ(made.code, 0) << made.err;
  const Json report = Json::parse(made.out);
  EXPECT_EQ(report["family"], "torchvision/mobilenet_v3_large");
  EXPECT_EQ(report["classes"], 24);
  EXPECT_EQ(report["read"], 312 - 46);
  EXPECT_EQ(report["unneeded"].size(), 46u);
  EXPECT_EQ(json("net/arch.json")["preprocess"]["resize"], 256);
  EXPECT_EQ(json("net/arch.json")["preprocess"]["interpolation"], "bilinear");
  const Json network = json("net/arch.json")["network"];
  EXPECT_EQ(network["padding"], "symmetric");
  EXPECT_EQ(network["classes"], 24);
  EXPECT_EQ(network["blocks"][2]["layers"][0]["gate"], "hard_sigmoid");
  const Safetensors weights(path("net/weights.safetensors"));
  EXPECT_EQ(weights.metadata().at("family"), "torchvision/mobilenet_v3_large");
  EXPECT_EQ(weights.metadata().at("resize"), "256");

  // Out again under their names, and in once more: the same bytes.
  const std::string arch =
      " --arch " + path("net/arch.json") + " --weights " + path("net/weights.safetensors");
  const Result out = run("export" + arch + " --safetensors " + path("again.safetensors"));
  ASSERT_EQ(out.code, 0) << out.err;
  EXPECT_EQ(out.err, "") << "nothing differs from torchvision's network";
  const Result twice =
      run("import " + path("again.safetensors") + " -o " + path("twice.safetensors"));
  ASSERT_EQ(twice.code, 0) << twice.err;
  EXPECT_NE(twice.out.find("read     266 tensors"), std::string::npos) << twice.out;
  EXPECT_EQ(engine::read_file(path("twice.safetensors")),
            engine::read_file(path("net/weights.safetensors")));
  EXPECT_EQ(json("twice.arch.json"), json("net/arch.json"));
}

TEST_F(ExchangeTest, AnArchitectureFileNamesTheNetworkOfOnceForAll) {
  write_model("ofa/mobilenet_v3 conv", path("ofa.safetensors"));
  expect_refusal("import " + path("ofa.safetensors") + " -o " + path("net"), 2,
                 {"ofa/mobilenet_v3", "--arch"});
  engine::write_file(path("net.config"),
                     golden_model("ofa/mobilenet_v3 conv")["net_config"].dump());
  const Result made = run("import " + path("ofa.safetensors") + " --arch " + path("net.config") +
                          " -o " + path("net"));
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_NE(made.out.find("feature_mix_layer.conv.bias taken as 0"), std::string::npos) << made.out;
  EXPECT_EQ(json("net/arch.json")["resolution"], 72);
  EXPECT_EQ(json("net/arch.json")["network"]["bn_epsilon"], 1e-5);
}

TEST_F(ExchangeTest, WhatCannotBeImportedIsRefused) {
  write_model("timm/mobilenetv2_100", path("t.safetensors"));
  expect_refusal("import " + path("t.safetensors") + " --arch mnasnet_b1 -o " + path("net"), 3,
                 {path("t.safetensors"), "not those of mnasnet_b1", "blocks.1.0.conv_pw.weight"});
  EXPECT_FALSE(std::filesystem::exists(path("net")));
  engine::write_file(path("w.pth"), "PK\3\4");
  expect_refusal("import " + path("w.pth") + " -o " + path("net"), 3,
                 {path("w.pth"), "torch.save", "safetensors"});
  write_weights(search::Space::named("mobilenet_v2").scaled(0.25), path("own.safetensors"));
  expect_refusal("import " + path("own.safetensors") + " -o " + path("net"), 2, {"own names"});
  engine::write_file(path("there.safetensors"), "");
  expect_refusal("import " + path("t.safetensors") + " -o " + path("there.safetensors"), 2,
                 {path("there.safetensors"), "--overwrite"});
  expect_refusal("import " + path("none") + " -o " + path("net"), 3, {path("none")});
}

TEST_F(ExchangeTest, ATrainedNetworkGoesOutAsOnnx) {
  const search::Space network = search::Space::named("mobilenet_v3_large").scaled(0.25);
  write_weights(network, path("w.safetensors"));
  const std::string of =
      " --arch mobilenet_v3_large --width 0.25 --resolution 64 --weights " + path("w.safetensors");
  const Result made = run("export" + of + " --onnx " + path("n.onnx"));
  ASSERT_EQ(made.code, 0) << made.err;
  const std::string bytes = engine::read_file(path("n.onnx"));
  for (const char* word :
       {"HardSwish", "GlobalAveragePool", "Gemm", "logits", "0.485,0.456,0.406"}) {
    EXPECT_NE(bytes.find(word), std::string::npos) << word;
  }
  expect_refusal("export" + of, 2, {"--onnx", "--safetensors"});
  expect_refusal("export" + of + " --safetensors " + path("t"), 2, {"--names timm"});
  expect_refusal(
      "export --arch mobilenet_v2 --weights " + path("w.safetensors") + " --onnx " + path("n"), 3,
      {path("w.safetensors"), "mobilenet_v2"});
  const Result timm = run("export" + of + " --names timm --safetensors " + path("timm"));
  EXPECT_EQ(timm.code, 0) << timm.err;
  EXPECT_NE(Safetensors(path("timm")).find("blocks.2.0.se.conv_reduce.weight"), nullptr);
}

TEST_F(ExchangeTest, WhatTorchvisionDoesOtherwiseIsSaid) {
  write_weights(search::Space::named("mobilenet_v2"), path("w.safetensors"));
  const Result made = run("export --arch mobilenet_v2 --weights " + path("w.safetensors") +
                          " --safetensors " + path("tv.safetensors"));
  ASSERT_EQ(made.code, 0) << made.err;
  for (const char* what : {"padding", "epsilon", "ReLU"}) {
    EXPECT_NE(made.err.find(what), std::string::npos) << made.err;
  }
  // The file itself says so, and tunas takes it at its word.
  const Result back = run("import " + path("tv.safetensors") + " -o " + path("net"));
  ASSERT_EQ(back.code, 0) << back.err;
  const Json network = json("net/arch.json")["network"];
  EXPECT_FALSE(network.contains("padding")) << "as published: TensorFlow's";
  EXPECT_FALSE(network.contains("bn_epsilon"));
  EXPECT_EQ(network["blocks"][0]["layers"][1]["act"], "relu");
  const Safetensors before(path("w.safetensors")), after(path("net/weights.safetensors"));
  for (const Safetensors::Entry& entry : before.entries()) {
    EXPECT_EQ(before.read_floats(entry.name), after.read_floats(entry.name)) << entry.name;
  }
}

TEST_F(ExchangeTest, ArchitecturesGoOutAndIn) {
  const Result indices = run("arch export --name proxylessnas_mobile --format indices");
  ASSERT_EQ(indices.code, 0) << indices.err;
  EXPECT_EQ(indices.out.rfind("0:0:0:1:0:0:0:", 0), 0u) << indices.out;
  for (const char* format : {"net-config", "timm", "json"}) {
    const Result out =
        run(std::string("arch export --name proxylessnas_mobile --format ") + format);
    ASSERT_EQ(out.code, 0) << out.err;
    engine::write_file(path("a"), out.out);
    const Result again = run("arch export --format indices --file " + path("a"));
    EXPECT_EQ(again.out, indices.out) << format << again.err;
    const Json shown = Json::parse(run("arch show --json --file " + path("a")).out);
    EXPECT_EQ(shown["macs"], 320428864) << format;
  }
  EXPECT_EQ(run("arch export --name mobilenet_v2").out,
            run("arch show --name mobilenet_v2 --json").out);
  expect_refusal("arch export --name mobilenet_v3_large --format indices", 2,
                 {"mobilenet_v3_large", "no published space"});
  expect_refusal("arch export --name mobilenet_v3_large --format net-config", 2, {"sigmoid"});
  expect_refusal("arch export --name mobilenet_v2 --format tim", 2, {"tim"});
  expect_refusal("arch export", 2, {"--space", "--name", "--file"});
}

}  // namespace
}  // namespace tunas::tools

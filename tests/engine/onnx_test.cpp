// ONNX files byte for byte: a small graph is what the onnx package of Python writes for it.
#include "engine/onnx.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "engine/file.h"

namespace tunas::engine {
namespace {

std::string hex(const std::string& bytes) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) text += {kDigits[byte >> 4], kDigits[byte & 15]};
  return text;
}

TEST(Onnx, BytesAreThoseOfTheOnnxPackage) {
  OnnxGraph graph("g");
  const float one[1] = {1.5f};
  const auto x = graph.input("x", {"batch", "300"});
  const auto c = graph.constant("c", {1}, one);
  const auto y = graph.node("Add", {x, c});
  graph.node("Elu", {y}, {{"alpha", 0.5f}}, "z");
  graph.output("z", {"batch", "300"});
  graph.metadata("k", "v");
  const std::string path = testing::TempDir() + "onnx_test.onnx";
  graph.write(path, "1");
  // from onnx import helper as h, TensorProto as T
  // g = h.make_graph([h.make_node("Add", ["x", "c"], ["Add_0"], name="Add_0"),
  //                   h.make_node("Elu", ["Add_0"], ["z"], name="z", alpha=0.5)], "g",
  //   [h.make_tensor_value_info("x", T.FLOAT, ["batch", 300])],
  //   [h.make_tensor_value_info("z", T.FLOAT, ["batch", 300])],
  //   [h.make_tensor("c", T.FLOAT, [1], b"\0\0\xc0\x3f", raw=True)])
  // m = h.make_model(g, producer_name="tunas", producer_version="1", ir_version=8,
  //                  opset_imports=[h.make_opsetid("", 17)])
  // h.set_model_props(m, {"k": "v"}); print(m.SerializeToString().hex())
  EXPECT_EQ(hex(read_file(path)),
            "0808120574756e61731a01313a88010a190a01780a016312054164645f301a054164645f30220341"
            "64640a230a054164645f3012017a1a017a2203456c752a0f0a05616c706861150000003fa0010112"
            "01672a0d080110014201634a040000c03f5a190a017812140a120801120e0a07120562617463680a"
            "0308ac0262190a017a12140a120801120e0a07120562617463680a0308ac0242040a00101172060a"
            "016b120176");
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace tunas::engine

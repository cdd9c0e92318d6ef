// ONNX: a graph of operators over named values, written as one protobuf file (IR version 8,
// operator set 17), as ONNX Runtime and the tools around it read it.
//
//   OnnxGraph graph("mobilenet_v2");
//   Value x = graph.input("input", {"batch", "3", "224", "224"});
//   Value w = graph.constant("stem/kernel", {32, 3, 3, 3}, kernel);
//   x = graph.node("Conv", {x, w}, {{"strides", Ints{2, 2}}});
//   graph.output(x, "logits", {"batch", "1000"});
//   graph.write(path);
//
// Only what networks here need of the format: float tensors, integer and float attributes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace tunas::engine {

/// A protobuf message under construction: fields in the order they are added
/// (https://protobuf.dev/programming-guides/encoding).
class Message {
 public:
  void integer(int field, std::int64_t value);    // varint
  void number(int field, float value);            // 32 bit
  void bytes(int field, std::string_view value);  // length-delimited
  void message(int field, const Message& value) { bytes(field, value.bytes_); }
  const std::string& bytes() const { return bytes_; }

 private:
  void varint(std::uint64_t value);
  std::string bytes_;
};

class OnnxGraph {
 public:
  using Value = std::string;
  using Ints = std::vector<std::int64_t>;
  struct Attribute {
    std::string name;
    std::variant<std::int64_t, float, Ints> value;
  };

  explicit OnnxGraph(std::string name) : name_(std::move(name)) {}

  /// A float input. An extent that is a number is fixed, a word is a name of an open one.
  Value input(const std::string& name, const std::vector<std::string>& extents);
  /// A stored float tensor, row-major. Names must be unique.
  Value constant(const std::string& name, const Ints& shape, std::span<const float> values);
  /// The output of one operator of the standard domain; its name is `name`, or made up.
  Value node(const std::string& op, const std::vector<Value>& inputs,
             const std::vector<Attribute>& attributes = {}, const std::string& name = "");
  /// Declares an output of the graph; the node that makes it must have been given this name.
  void output(const std::string& name, const std::vector<std::string>& extents);
  /// metadata_props: free text for whoever uses the file.
  void metadata(const std::string& key, const std::string& value);

  /// Error(Exit::data) where the file cannot be written or would exceed protobuf's 2 GiB.
  void write(const std::string& path, const std::string& producer_version) const;

 private:
  std::string name_;
  Message nodes_, constants_, inputs_, outputs_, metadata_;
  int made_ = 0;
};

}  // namespace tunas::engine

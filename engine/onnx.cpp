// Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
#include "engine/onnx.h"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "engine/file.h"
#include "kernels/error.h"

namespace tunas::engine {
namespace {

constexpr std::int64_t kIrVersion = 8, kOperatorSet = 17;
constexpr std::int64_t kFloat = 1;  // TensorProto.DataType
constexpr std::size_t kMostBytes = (std::size_t{1} << 31) - 1;

/// ValueInfoProto of a float tensor.
Message value_info(const std::string& name, const std::vector<std::string>& extents) {
  Message shape;
  for (const std::string& extent : extents) {
    Message dimension;
    if (std::all_of(extent.begin(), extent.end(),
                    [](unsigned char c) { return std::isdigit(c); })) {
      dimension.integer(1, std::stoll(extent));
    } else {
      dimension.bytes(2, extent);
    }
    shape.message(1, dimension);
  }
  Message tensor, type, info;
  tensor.integer(1, kFloat);
  tensor.message(2, shape);
  type.message(1, tensor);
  info.bytes(1, name);
  info.message(2, type);
  return info;
}

Message attribute_proto(const OnnxGraph::Attribute& attribute) {
  constexpr std::int64_t kTypeFloat = 1, kTypeInt = 2, kTypeInts = 7;
  Message proto;
  proto.bytes(1, attribute.name);
  if (const auto* number = std::get_if<float>(&attribute.value)) {
    proto.number(2, *number);
    proto.integer(20, kTypeFloat);
  } else if (const auto* integer = std::get_if<std::int64_t>(&attribute.value)) {
    proto.integer(3, *integer);
    proto.integer(20, kTypeInt);
  } else {
    for (const std::int64_t i : std::get<OnnxGraph::Ints>(attribute.value)) proto.integer(8, i);
    proto.integer(20, kTypeInts);
  }
  return proto;
}

}  // namespace

void Message::varint(std::uint64_t value) {
  for (; value >= 128; value >>= 7) bytes_ += static_cast<char>((value & 127) | 128);
  bytes_ += static_cast<char>(value);
}

void Message::integer(int field, std::int64_t value) {
  varint(static_cast<std::uint64_t>(field) << 3 | 0);
  varint(static_cast<std::uint64_t>(value));
}

void Message::number(int field, float value) {
  varint(static_cast<std::uint64_t>(field) << 3 | 5);
  char raw[sizeof value];
  std::memcpy(raw, &value, sizeof value);
  bytes_.append(raw, sizeof raw);
}

void Message::bytes(int field, std::string_view value) {
  varint(static_cast<std::uint64_t>(field) << 3 | 2);
  varint(value.size());
  bytes_ += value;
}

OnnxGraph::Value OnnxGraph::input(const std::string& name,
                                  const std::vector<std::string>& extents) {
  inputs_.message(11, value_info(name, extents));
  return name;
}

OnnxGraph::Value OnnxGraph::constant(const std::string& name, const Ints& shape,
                                     std::span<const float> values) {
  Message tensor;
  for (const std::int64_t extent : shape) tensor.integer(1, extent);
  tensor.integer(2, kFloat);
  tensor.bytes(8, name);
  tensor.bytes(9, {reinterpret_cast<const char*>(values.data()), values.size_bytes()});
  constants_.message(5, tensor);
  return name;
}

OnnxGraph::Value OnnxGraph::node(const std::string& op, const std::vector<Value>& inputs,
                                 const std::vector<Attribute>& attributes,
                                 const std::string& name) {
  const Value output = name.empty() ? op + "_" + std::to_string(made_++) : name;
  Message node;
  for (const Value& input : inputs) node.bytes(1, input);
  node.bytes(2, output);
  node.bytes(3, output);
  node.bytes(4, op);
  for (const Attribute& attribute : attributes) node.message(5, attribute_proto(attribute));
  nodes_.message(1, node);
  return output;
}

void OnnxGraph::output(const std::string& name, const std::vector<std::string>& extents) {
  outputs_.message(12, value_info(name, extents));
}

void OnnxGraph::metadata(const std::string& key, const std::string& value) {
  Message entry;
  entry.bytes(1, key);
  entry.bytes(2, value);
  metadata_.message(14, entry);
}

void OnnxGraph::write(const std::string& path, const std::string& producer_version) const {
  Message name;
  name.bytes(2, name_);
  // A message is the concatenation of its fields, in any order.
  const std::string graph =
      nodes_.bytes() + name.bytes() + constants_.bytes() + inputs_.bytes() + outputs_.bytes();
  if (graph.size() > kMostBytes - (std::size_t{1} << 20)) {
    fail(Exit::data, path, ": a network of ", graph.size() >> 20,
         " MiB exceeds the 2 GiB of a protobuf file; choose a smaller --width");
  }
  Message operators, model;
  operators.bytes(1, "");
  operators.integer(2, kOperatorSet);
  model.integer(1, kIrVersion);
  model.bytes(2, "tunas");
  model.bytes(3, producer_version);
  model.bytes(7, graph);
  model.message(8, operators);
  write_file(path, model.bytes() + metadata_.bytes());
}

}  // namespace tunas::engine

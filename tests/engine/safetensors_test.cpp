// safetensors: what is written reads back bit for bit, the bytes are the format's, and no damaged
// file gets past the checks.
#include "engine/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <limits>
#include <numeric>

#include "engine/file.h"
#include "kernels/error.h"

namespace tunas::engine {
namespace {

class SafetensorsTest : public testing::Test {
 protected:
  SafetensorsTest() {
    folder_ = std::filesystem::temp_directory_path() /
              ("tunas_safetensors_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  ~SafetensorsTest() override { std::filesystem::remove_all(folder_); }

  std::string path() const { return (folder_ / "w.safetensors").string(); }

  /// A file with `header` as it stands and `data_bytes` zero bytes.
  void forge(const std::string& header, std::size_t data_bytes) const {
    std::string bytes(8, '\0');
    const std::uint64_t length = header.size();
    std::memcpy(bytes.data(), &length, sizeof length);
    write_file(path(), bytes + header + std::string(data_bytes, '\0'));
  }

  /// The sentence with which opening fails.
  std::string refusal() const {
    try {
      Safetensors file(path());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::data);
      return error.what();
    }
    return "";
  }

  std::filesystem::path folder_;
};

TEST_F(SafetensorsTest, ReadsBackWhatWasWritten) {
  std::vector<float> a(24);
  std::iota(a.begin(), a.end(), -3.5f);
  const std::int64_t step = 41;
  write_safetensors(path(),
                    {{"blocks/0/kernel", "F32", {2, 3, 4}, a.data()},
                     {"empty", "F32", {0, 5}, nullptr},
                     {"step", "I64", {}, &step}},
                    {{"space", "mobilenet_v3_like_search"}});
  const Safetensors file(path());
  ASSERT_EQ(file.entries().size(), 3u);
  EXPECT_EQ(file.entries()[0].name, "blocks/0/kernel");
  EXPECT_EQ(file.metadata().at("space"), "mobilenet_v3_like_search");
  EXPECT_EQ(file.find("absent"), nullptr);
  std::vector<float> b(24);
  file.read("blocks/0/kernel", "F32", {2, 3, 4}, b.data());
  EXPECT_EQ(a, b);
  std::int64_t read_step = 0;
  file.read("step", "I64", {}, &read_step);
  EXPECT_EQ(read_step, 41);
  EXPECT_FALSE(std::filesystem::exists(path() + ".part"));
}

TEST_F(SafetensorsTest, BytesAreTheFormats) {
  const float x[2] = {1.0f, -2.0f};
  write_safetensors(path(), {{"x", "F32", {2}, x}});
  const std::string bytes = read_file(path());
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  const std::string json = R"({"__metadata__":{"data_xxh64":"54ba68ca061b22ef"},)"
                           R"("x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(bytes.substr(8, json.size()), json);
  EXPECT_EQ(bytes.substr(8 + json.size(), length - json.size()),
            std::string(length - json.size(), ' '));
  ASSERT_EQ(bytes.size(), 8 + length + 8);
  EXPECT_EQ(std::memcmp(bytes.data() + 8 + length, x, 8), 0);
}

TEST_F(SafetensorsTest, SumIsThatOfTheFile) {
  const float x[3] = {1, 2, 3};
  const FileSum written = write_safetensors(path(), {{"x", "F32", {3}, x}, {"y", "F32", {2}, x}});
  EXPECT_EQ(written, sum_file(path()));
  EXPECT_EQ(written.bytes, std::filesystem::file_size(path()));
  write_file(path(), "");
  EXPECT_EQ(sum_file(path()).xxh64, "ef46db3751d8e999");  // the published sum of nothing
}

TEST_F(SafetensorsTest, DataAreHeldToTheirChecksum) {
  const float x[2] = {1, 2};
  write_safetensors(path(), {{"x", "F32", {2}, x}});
  const std::string whole = read_file(path());
  const std::string digits = Safetensors(path()).metadata().at(kChecksum);
  for (std::size_t i = 1; i <= sizeof x; ++i) {
    std::string damaged = whole;
    damaged[damaged.size() - i] ^= 1;
    write_file(path(), damaged);
    const std::string sentence = refusal();
    EXPECT_NE(sentence.find(path() + ": is damaged"), std::string::npos) << sentence;
    EXPECT_NE(sentence.find(digits), std::string::npos) << sentence;
  }
  write_file(path(), whole);
  EXPECT_EQ(refusal(), "");
}

TEST_F(SafetensorsTest, RealNumbersOfAnyTypeReadAsFloats) {
  const double f64[] = {0.1, -3};
  const std::uint16_t f16[] = {0x3c00, 0xc000, 0x0001, 0x7bff, 0xfc00, 0x8000};
  const std::uint16_t bf16[] = {0x3f80, 0xc040};
  const std::int32_t i32[] = {1};
  write_safetensors(path(), {{"f64", "F64", {2}, f64},
                             {"f16", "F16", {2, 3}, f16},
                             {"bf16", "BF16", {2}, bf16},
                             {"i32", "I32", {1}, i32},
                             {"none", "F16", {0}, nullptr}});
  const Safetensors file(path());
  const float infinite = std::numeric_limits<float>::infinity();
  EXPECT_EQ(file.read_floats("f64"), (std::vector<float>{0.1f, -3}));
  EXPECT_EQ(file.read_floats("f16"),
            (std::vector<float>{1, -2, 0x1p-24f, 65504, -infinite, -0.0f}));
  EXPECT_EQ(file.read_floats("bf16"), (std::vector<float>{1, -3}));
  EXPECT_TRUE(file.read_floats("none").empty());
  EXPECT_THROW(file.read_floats("i32"), Error);
  EXPECT_THROW(file.read_floats("absent"), Error);
}

TEST_F(SafetensorsTest, RefusesTheWrongTensor) {
  const float x[2] = {1, 2};
  write_safetensors(path(), {{"x", "F32", {2}, x}});
  const Safetensors file(path());
  float out[4];
  for (const auto& [name, type, shape] :
       {std::tuple{"y", "F32", Shape{2}}, {"x", "F64", Shape{2}}, {"x", "F32", Shape{1, 2}}}) {
    try {
      file.read(name, type, shape, out);
      FAIL() << name << type;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(path()), std::string::npos);
      EXPECT_NE(std::string(error.what()).find("'" + std::string(name) + "'"), std::string::npos);
    }
  }
}

TEST_F(SafetensorsTest, RefusesToWriteTwiceOrUnknown) {
  const float x[2] = {1, 2};
  EXPECT_THROW(write_safetensors(path(), {{"x", "F32", {2}, x}, {"x", "F32", {2}, x}}), Error);
  EXPECT_THROW(write_safetensors(path(), {{"x", "F31", {2}, x}}), Error);
  EXPECT_THROW(write_safetensors(path(), {{"__metadata__", "F32", {2}, x}}), Error);
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(SafetensorsTest, RefusesDamagedFiles) {
  const auto entry = [](const char* offsets, const char* shape = "[2]", const char* type = "F32") {
    return std::string(R"({"dtype":")") + type + R"(","shape":)" + shape + R"(,"data_offsets":)" +
           offsets + "}";
  };
  const struct {
    std::string header;
    std::size_t data;
    const char* says;
  } cases[] = {
      {"{", 0, "not JSON"},
      {"[1]", 0, "not a JSON object"},
      {R"({"a":3})", 0, "'a' is not described"},
      {R"({"a":{}})", 0, "'a' has no dtype"},
      {R"({"a":)" + entry("[0,8]", "[2]", "F31") + "}", 8, "'a' has the unknown dtype 'F31'"},
      {R"({"a":)" + entry("[0,8]", "[-2]") + "}", 8, "'a' has no shape"},
      {R"({"a":)" + entry("[0,8]", "[4294967296,4294967296]") + "}", 8, "impossible shape"},
      {R"({"a":)" + entry("[0]") + "}", 8, "'a' has no data_offsets"},
      {R"({"a":)" + entry("[8,0]") + "}", 8, "'a' has offsets [8, 0]"},
      {R"({"a":)" + entry("[0,9]") + "}", 9, "takes 8 bytes"},
      {R"({"a":)" + entry("[0,8]") + R"(,"b":)" + entry("[4,12]") + "}", 12,
       "'b' starts at byte 4 inside"},
      {R"({"a":)" + entry("[0,8]") + R"(,"b":)" + entry("[12,20]") + "}", 20,
       "'b' starts at byte 12 and leaves a hole"},
      {R"({"a":)" + entry("[0,8]") + R"(,"a":)" + entry("[8,16]") + "}", 16, "'a' is listed twice"},
      {R"({"a":)" + entry("[0,8]") + "}", 7, "holds 7 bytes of data"},
      {R"({"a":)" + entry("[0,8]") + "}", 9, "holds 9 bytes of data"},
      {R"({"__metadata__":{"k":1}})", 0, "not an object of strings"},
  };
  for (const auto& damaged : cases) {
    forge(damaged.header, damaged.data);
    const std::string sentence = refusal();
    EXPECT_NE(sentence.find(damaged.says), std::string::npos) << damaged.header << "\n" << sentence;
    EXPECT_EQ(sentence.rfind(path(), 0), 0u) << sentence;
  }
}

TEST_F(SafetensorsTest, RefusesShortAndHugeHeaders) {
  write_file(path(), "abc");
  EXPECT_NE(refusal().find("shorter than 8 bytes"), std::string::npos);
  write_file(path(), std::string(8, '\x7f') + "{}");
  EXPECT_NE(refusal().find("is cut short"), std::string::npos);
  std::string length(8, '\0');  // of a header above the format's limit, in a file that holds it
  const std::uint64_t above = 100'000'001;
  std::memcpy(length.data(), &above, sizeof above);
  write_file(path(), length);
  std::filesystem::resize_file(path(), 8 + above);
  EXPECT_NE(refusal().find("a header of 100000001 bytes"), std::string::npos);
  EXPECT_THROW(Safetensors("/nonexistent/w.safetensors"), Error);
  EXPECT_THROW(Safetensors(folder_.string()), Error);
}

TEST_F(SafetensorsTest, EveryPrefixOfAFileIsRefused) {
  const float x[2] = {1, 2};
  write_safetensors(path(), {{"x", "F32", {2}, x}});
  const std::string whole = read_file(path());
  for (std::size_t n = 0; n < whole.size(); ++n) {
    write_file(path(), whole.substr(0, n));
    EXPECT_NE(refusal(), "") << n;
  }
}

}  // namespace
}  // namespace tunas::engine

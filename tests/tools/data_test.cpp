// tunas data: its five verbs from the command line to exit code and output, and --holdout
// published.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tests/data/examples.h"
#include "tests/tools/program.h"

namespace tunas::tools {
namespace {

namespace fs = std::filesystem;
using namespace data::testing;
using Json = nlohmann::json;

class DataTest : public ProgramTest {
 protected:
  void put(const std::string& name, const Bytes& bytes) const {
    engine::write_file(path(name), {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  /// What a call that must succeed prints.
  Json json(const std::string& arguments) const {
    const Result result = run(arguments + " --json");
    EXPECT_EQ(result.code, 0) << result.err;
    return Json::parse(result.out);
  }
  std::vector<Json> lines(const std::string& text) const {
    std::istringstream in(text);
    std::vector<Json> objects;
    for (std::string line; std::getline(in, line);) objects.push_back(Json::parse(line));
    return objects;
  }
  /// A tar of 12 images of which two are damaged, one in its header and one behind it.
  void put_damaged(const std::string& name) const {
    put(name, make_tar(12, [](int i, Bytes& jpeg) {
          if (i == 3) jpeg[1] = 0;
          if (i == 7) jpeg.resize(jpeg.size() / 2);
        }));
  }
  /// A batch of CIFAR-10: image i is of one colour, (10 i, 20, 255 - i).
  Bytes cifar(int count) const {
    Bytes bytes;
    for (int i = 0; i < count; ++i) {
      bytes.push_back(static_cast<std::uint8_t>(i % 3));
      for (const int value : {10 * i, 20, 255 - i}) {
        bytes.insert(bytes.end(), 1024, static_cast<std::uint8_t>(value));
      }
    }
    return bytes;
  }
};

TEST_F(DataTest, MistakesAreNamed) {
  expect_refusal("data", 2, {"index, check, pack, stats, bench"});
  expect_refusal("data index", 2, {"needs data SPEC", "tfrecord:GLOB"});
  expect_refusal("data check nonsense", 2, {"nonsense", "folder:DIR", "pack:FILE"});
  for (const char* verb : {"index", "check", "stats", "bench", "pack --out x"}) {
    const std::string data = "data " + std::string(verb) + " ";
    expect_refusal(data + "tar:" + path("none*.tar"), 3, {path("none*.tar"), "no file matches"});
    expect_refusal(data + "folder:" + path("none"), 3, {path("none"), "cannot be listed"});
    expect_refusal(data + "pack:" + path("none"), 3, {path("none"), "cannot be opened"});
  }
  put("bad.tar", Bytes(2048, 'x'));
  expect_refusal("data index tar:" + path("bad.tar"), 3, {path("bad.tar"), "not a tar header"});
  expect_refusal("data stats cifar10:" + path(""), 3, {"data_batch_1.bin", "cifar-10-binary"});
  expect_refusal("data bench synthetic:8x8x8 --seconds 0", 2, {"--seconds"});
}

TEST_F(DataTest, IndexIsMadeOnceAndRebuiltOnRequest) {
  put("a.tar", make_tar(3));
  put("b.tar", make_tar(2));
  const std::string index = "data index tar:" + path("*.tar");
  const Json first = json(index);
  EXPECT_EQ(first["images"], 5);
  EXPECT_EQ(first["classes"], 3);
  EXPECT_EQ(first["archives"][1]["images"], 2);
  EXPECT_EQ(first["archives"][1]["index"], path("b.tar.index"));
  EXPECT_EQ(first["archives"][1]["reused"], false);
  EXPECT_EQ(json(index)["archives"][1]["reused"], true);
  EXPECT_EQ(json(index + " --rebuild")["archives"][1]["reused"], false);
  engine::write_file(path("b.tar.index"), "damaged");
  const Result text = run(index);
  EXPECT_EQ(text.code, 0);
  EXPECT_EQ(text.out,
            "5 images, classes 0 to 2\n2 archives: 1 indexed, 1 had their index already\n");
  EXPECT_EQ(json("data index synthetic:8x8x7")["archives"], Json::array());
}

TEST_F(DataTest, CheckNamesEveryBadRecord) {
  put("good.tar", make_tar(12));
  const Result good = run("data check tar:" + path("good.tar"));
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_EQ(good.out, "12 images, 0 bad\n");

  put_damaged("bad.tar");
  const std::string check = "data check tar:" + path("bad.tar");
  const Result bad = run(check);
  EXPECT_EQ(bad.code, 3);
  EXPECT_NE(bad.out.find(path("bad.tar") + ": k3 (at byte "), std::string::npos) << bad.out;
  EXPECT_NE(bad.out.find("\n12 images, 2 bad\n"), std::string::npos) << bad.out;
  const Result one = run(check + " --json --workers 1"), many = run(check + " --json --workers 5");
  EXPECT_EQ(one.out, many.out);
  const std::vector<Json> objects = lines(one.out);
  ASSERT_EQ(objects.size(), 3u);
  EXPECT_EQ(objects[0]["record"], 3);
  EXPECT_EQ(objects[0]["file"], path("bad.tar"));
  EXPECT_EQ(objects[0]["key"], "k3");
  EXPECT_EQ(objects[1]["key"], "k7");
  EXPECT_GT(objects[1]["offset"], 512);
  EXPECT_FALSE(objects[1]["reason"].get<std::string>().empty());
  EXPECT_GT(objects[1]["byte"], 0) << "within the image";
  EXPECT_NE(bad.out.find(" of the image)"), std::string::npos) << bad.out;
  EXPECT_EQ(objects[2], (Json{{"checked", 12}, {"bad", 2}}));
}

TEST_F(DataTest, CheckLooksAtChecksums) {
  Bytes file;
  for (int i = 0; i < 3; ++i) append(file, tfrecord_of(example_of(make_jpeg({.seed = i}), i, "k")));
  put("good", file);
  EXPECT_EQ(run("data check tfrecord:" + path("good")).code, 0);
  file[file.size() / 2] ^= 1;  // one bit in the second image
  put("bad", file);
  const Result bad = run("data check tfrecord:" + path("bad"));
  EXPECT_EQ(bad.code, 3);
  EXPECT_NE(bad.out.find("the record's checksum does not hold"), std::string::npos) << bad.out;
  EXPECT_NE(bad.out.find("3 images, 1 bad"), std::string::npos) << bad.out;

  ASSERT_EQ(run("data pack synthetic:8x8x3 --out " + path("p")).code, 0);
  EXPECT_EQ(run("data check pack:" + path("p")).code, 0);
  std::string pixels = engine::read_file(path("p"));
  pixels[16 + 192 + 5] ^= 1;
  engine::write_file(path("p"), pixels);
  const Result one = run("data check --json pack:" + path("p"));
  EXPECT_EQ(one.code, 3);
  EXPECT_EQ(lines(one.out)[0]["offset"], 16 + 192);
}

TEST_F(DataTest, PackIsReadBack) {
  put("a.tar", make_tar(9));
  const std::string pack = "data pack tar:" + path("a.tar") + " --out ";
  EXPECT_EQ(json(pack + path("e"))["images"], 9);
  EXPECT_EQ(json("data stats pack:" + path("e"))["bytes"],
            json("data stats tar:" + path("a.tar"))["bytes"]);
  EXPECT_EQ(run(pack + path("d") + " --payload decoded").code, 0);
  const Json pixels = json("data stats --pixels pack:" + path("d"));
  EXPECT_EQ(pixels["kinds"], (Json{{"pixels", 9}}));
  EXPECT_EQ(pixels["mean"], json("data stats --pixels tar:" + path("a.tar"))["mean"]);

  // The same bytes again, for any number of workers; another order with a seed.
  EXPECT_EQ(run(pack + path("e2") + " --workers 7").code, 0);
  EXPECT_EQ(engine::read_file(path("e")), engine::read_file(path("e2")));
  EXPECT_EQ(run(pack + path("s") + " --shuffle 5").code, 0);
  EXPECT_EQ(run(pack + path("s2") + " --shuffle 5").code, 0);
  EXPECT_EQ(engine::read_file(path("s")), engine::read_file(path("s2")));
  EXPECT_NE(engine::read_file(path("s")), engine::read_file(path("e")));
  EXPECT_EQ(json("data stats pack:" + path("s")), json("data stats pack:" + path("e")));
}

TEST_F(DataTest, PackRefusesWhatItCannotKeep) {
  put_damaged("bad.tar");
  const std::string pack = "data pack tar:" + path("bad.tar") + " --out " + path("p");
  const Result refused = run(pack + " --payload decoded");
  EXPECT_EQ(refused.code, 3);
  EXPECT_NE(refused.err.find(path("bad.tar") + ": k3"), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find("--skip-bad"), std::string::npos) << refused.err;
  EXPECT_FALSE(fs::exists(path("p")) || fs::exists(path("p.part")));
  const Json left = json(pack + " --payload decoded --skip-bad");
  EXPECT_EQ(left["images"], 10);
  EXPECT_EQ(left["left_out"], 2);
  EXPECT_EQ(run("data check pack:" + path("p")).code, 0);
  expect_refusal(pack, 2, {path("p"), "exists"});
  expect_refusal("data pack synthetic:8x8x2 --payload encoded --out " + path("q"), 2,
                 {"--payload", "decoded"});
  expect_refusal("data pack synthetic:8x8x2 --out /dev/null/q", 3, {"/dev/null/q"});
  EXPECT_EQ(run("data pack synthetic:64x64x99 --out " + path("q"), "ulimit -f 64;").code, 3);
  EXPECT_FALSE(fs::exists(path("q")) || fs::exists(path("q.part")));
}

TEST_F(DataTest, AnInterruptedPackLeavesNothing) {
  const std::string out = path("p"), part = out + ".part";
  std::vector<std::string> words = {TUNAS_PROGRAM, "data", "pack", "synthetic:8x8x20000000",
                                    "--out",       out};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    const int log = ::open(path("log").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    ::dup2(log, STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  const auto begun = [&] { return fs::exists(part) && fs::file_size(part) > 1000; };
  for (int i = 0; i < 3000 && !begun(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ::kill(child, SIGINT);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 130) << engine::read_file(path("log"));
  EXPECT_FALSE(fs::exists(out) || fs::exists(part));
}

TEST_F(DataTest, StatsAreThoseOfThePixels) {
  constexpr int kImages = 10;
  put("test_batch.bin", cifar(kImages));
  const std::string stats = "data stats --split test cifar10:" + path("");
  const Json all = json(stats + " --pixels");
  EXPECT_EQ(all, json(stats + " --pixels --workers 1"));
  EXPECT_EQ(all["images"], kImages);
  EXPECT_EQ(all["classes"], 3);
  EXPECT_EQ(all["images_a_class"]["min"], 3);
  EXPECT_EQ(all["images_a_class"]["max"], 4);
  EXPECT_EQ(all["width"]["median"], 32);
  EXPECT_EQ(all["pixels"], 1024 * kImages);
  const double deviation = std::sqrt((kImages * kImages - 1) / 12.0);  // of 0..9
  const double mean[] = {45, 20, 250.5}, std[] = {10 * deviation, 0, deviation};
  for (std::size_t c = 0; c < 3; ++c) {
    EXPECT_NEAR(all["mean"][c], mean[c], 1e-9);
    EXPECT_NEAR(all["std"][c], std[c], 1e-6);
  }
  const std::string text = run(stats).out;
  EXPECT_NE(text.find("10 images, 3 classes\n"), std::string::npos) << text;
  EXPECT_NE(text.find("10 pixels, 0.0 MB"), std::string::npos) << text;

  put_damaged("bad.tar");
  EXPECT_EQ(json("data stats tar:" + path("bad.tar"))["bad"], 1) << "headers are all it reads";
  EXPECT_EQ(json("data stats --pixels tar:" + path("bad.tar"))["bad"], 2);
}

TEST_F(DataTest, BenchCountsEachNumberOfWorkers) {
  const Json all = json("data bench synthetic:64x64x50 --seconds 0.05 --batch-size 16");
  EXPECT_EQ(all["images"], 50);
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  EXPECT_EQ(all["rates"].front()["workers"], 1);
  EXPECT_EQ(all["rates"].back()["workers"], cores);
  for (const Json& rate : all["rates"]) {
    EXPECT_GT(rate["images_per_second"], 0);
    EXPECT_GE(rate["seconds"], 0.05);
  }
}

TEST_F(DataTest, ThePublishedSplitIsOfThePublishedRecordsOnly) {
  const std::string train =
      "train --arch mobilenet_v2 --steps 1 --holdout published --out " + path("run") + " --data ";
  expect_refusal(train + "synthetic:8x8x60000", 2,
                 {"--holdout published", "tfrecord:", "synthetic:8x8x60000"});
  put("a", tfrecord_of(example_of(make_jpeg({}), 1, "k")));
  expect_refusal(train + "tfrecord:" + path("a"), 2, {"holds 1 images", "1281167"});
  expect_refusal("data stats synthetic:8x8x9 --split test", 2, {"--split", "synthetic:8x8x9"});
  expect_refusal("train --arch mobilenet_v2 --holdout some --out x --data synthetic:8x8x9", 2,
                 {"--holdout", "'some'", "a whole number or published"});
  EXPECT_FALSE(fs::exists(path("run")));
}

TEST_F(DataTest, EveryFormatCanBeTrainedOn) {
  fs::create_directories(path("classes/a"));
  fs::create_directories(path("classes/b"));
  Bytes records;
  for (int i = 0; i < 6; ++i) {
    const Bytes jpeg = make_jpeg({.seed = i});
    put("classes/" + std::string(i % 2 == 0 ? "a/" : "b/") + std::to_string(i) + ".jpg", jpeg);
    append(records, tfrecord_of(example_of(jpeg, i % 2, std::to_string(i))));
  }
  put("a.tfrecord", records);
  for (int i = 1; i <= 5; ++i) put("data_batch_" + std::to_string(i) + ".bin", cifar(2));
  ASSERT_EQ(run("data pack folder:" + path("classes") + " --out " + path("p")).code, 0);
  int number = 0;
  for (const std::string& data : {"folder:" + path("classes"), "tfrecord:" + path("a.tfrecord"),
                                  "pack:" + path("p"), "cifar10:" + path("")}) {
    const Result result =
        run("train --arch mobilenet_v2 --width 0.25 --resolution 32 --steps 1 --batch-size 4 "
            "--threads 1 --data " +
            data + " --out " + path("run" + std::to_string(number++)));
    EXPECT_EQ(result.code, 0) << data << "\n" << result.err;
  }
}

}  // namespace
}  // namespace tunas::tools

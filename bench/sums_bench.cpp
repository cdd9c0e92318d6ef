// Seconds of a sum over ranks on CPUs (engine/gloo.h), nothing else running:
//   sums_bench --ranks 2 --sums fixed     ranks are processes of this machine
// Prints one JSON object: for each count of floats the median over rounds of rank 0's time from
// start_sum to the end of finish_sums, and that of an all_gather of 256 bytes a rank.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "engine/gloo.h"
#include "tests/engine/processes.h"

namespace tunas::engine {
namespace {

struct Options {
  int ranks = 2, rounds = 15;
  std::string sums = "fixed";
  std::vector<std::size_t> counts = {1, 1 << 14, 1 << 18, 1 << 20, 1 << 22};
};

/// After two rounds that are not counted.
template <class F>
double median_seconds(int rounds, const F& f) {
  std::vector<double> seconds;
  for (int i = -2; i < rounds; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    if (i >= 0) seconds.push_back(took.count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + rounds / 2, seconds.end());
  return seconds[static_cast<std::size_t>(rounds / 2)];
}

nlohmann::ordered_json measure(const Options& o, Comm& comm) {
  nlohmann::ordered_json result = {{"ranks", o.ranks}, {"sums", o.sums}, {"seconds", {}}};
  for (const std::size_t count : o.counts) {
    std::vector<float> data(count, 0.0f);
    const double seconds = median_seconds(o.rounds, [&] {
      comm.start_sum(data.data(), data.size());
      comm.finish_sums();
    });
    result["seconds"].push_back({{"floats", count}, {"seconds", seconds}});
  }
  const std::vector<char> mine(256);
  std::vector<char> all(mine.size() * static_cast<std::size_t>(o.ranks));
  result["all_gather_seconds"] =
      median_seconds(10 * o.rounds, [&] { comm.all_gather(mine.data(), all.data(), mine.size()); });
  return result;
}

int sums_bench(int argc, char** argv) {
  Options o;
  CLI::App app("Times sums over ranks on CPUs");
  app.add_option("--ranks", o.ranks, "processes");
  app.add_option("--sums", o.sums, "how they add")->check(CLI::IsMember({"fixed", "fast"}));
  app.add_option("--floats", o.counts, "sizes of the sums");
  app.add_option("--rounds", o.rounds, "sums of each size");
  CLI11_PARSE(app, argc, argv);
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("tunas_sums_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  bool failed = false;
  {
    Processes ranks(o.ranks, [&](int rank) {
      Gloo comm({rank, o.ranks, (folder / "rendezvous").string(), 60,
                 o.sums == "fixed" ? Sums::fixed : Sums::fast});
      const std::string text = measure(o, comm).dump();
      if (rank == 0) std::cout << text << std::endl;
    });
    for (int r = 0; r < o.ranks; ++r) {
      const int code = ranks.code(r, 600);
      if (code == 0) continue;
      std::cerr << ranks.said(r);
      failed = true;
    }
  }
  std::filesystem::remove_all(folder);
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace tunas::engine

int main(int argc, char** argv) { return tunas::engine::sums_bench(argc, argv); }

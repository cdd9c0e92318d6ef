// Images per second of whole steps, on synthetic crops:
//   step_bench train  --model NAME    forward, backward, RMSProp update of a network trained alone
//   step_bench search --space NAME    a new random architecture each step: forward, backward,
//                                     update, then a validation pass of 4 times the batch
// Prints one JSON object: median seconds a step, images/s (trained images), peak memory.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "kernels/philox.h"
#include "search/network.h"
#include "tests/support/synthetic_batch.h"

namespace tunas {
namespace {

struct Options {
  std::string model = "mobilenet_v3_large", space = "mobilenet_v3_like_search";
  std::string device = "cpu", precision = "bf16";
  Kernels kernels = Kernels::automatic;
  int batch = 16, resolution = 224, threads = 0, steps = 10, warmup = 3, val_multiplier = 4;
  double width = 1;
};

template <class Step>
nlohmann::ordered_json measure(const Options& o, Step step) {
  std::vector<double> seconds;
  for (int i = 0; i < o.warmup + o.steps; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    step(i);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    if (i >= o.warmup) seconds.push_back(took.count());
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return {{"batch", o.batch},
          {"resolution", o.resolution},
          {"steps", o.steps},
          {"median_s", median},
          {"min_s", seconds.front()},
          {"max_s", seconds.back()},
          {"images_per_s", o.batch / median},
          {"peak_rss_mb", usage.ru_maxrss / 1024}};
}

search::NetworkConfig config(const Options& o, int validation) {
  search::NetworkConfig c;
  c.supernet.resolution = o.resolution;
  c.train_batch = o.batch;
  c.validation_batch = validation;
  return c;
}

nlohmann::ordered_json train(const Options& o, engine::Device& device) {
  const search::Space space = search::Space::named(o.model).scaled(o.width);
  search::NetworkConfig c = config(o, o.batch);
  c.supernet.running_averages = true;
  c.plans = search::NetworkConfig::Plans::fixed;
  search::Network network(device, space, c);
  const search::Plan plan = network.supernet().plan(search::Arch::largest(space));
  const SyntheticBatch data(o.batch, o.resolution, space.classes);
  auto result = measure(o, [&](int i) {
    network.train_shard(data.batch, plan, static_cast<std::uint32_t>(i), 0);
    network.update(1e-3);
    network.wait();
  });
  result["model"] = o.model;
  result["device_mb"] = (network.parameter_bytes() + network.activation_bytes()) >> 20;
  result["gmacs_per_image"] = search::count(plan).macs / 1e9;
  return result;
}

nlohmann::ordered_json search_step(const Options& o, engine::Device& device) {
  const search::Space space = search::Space::named(o.space).scaled(o.width);
  search::Network network(device, space, config(o, o.batch * o.val_multiplier));
  const SyntheticBatch data(o.batch, o.resolution, space.classes);
  const SyntheticBatch held_out(o.batch * o.val_multiplier, o.resolution, space.classes);
  auto result = measure(o, [&](int i) {
    search::Arch arch;
    for (std::size_t d = 0; d < space.decisions.size(); ++d) {
      const Random4 r = philox({2, Purpose::test, static_cast<std::uint32_t>(i), 0}, d);
      arch.values.push_back(static_cast<std::int8_t>(r.v[0] % space.decisions[d].options.size()));
    }
    const search::Plan plan = network.supernet().plan(arch);
    network.train_shard(data.batch, plan, static_cast<std::uint32_t>(i), 0);
    network.update(1e-3);
    network.score(held_out.batch, plan, engine::Pass::search_validation);
    network.wait();
  });
  result["space"] = o.space;
  result["device_mb"] = (network.parameter_bytes() + network.activation_bytes()) >> 20;
  result["val_multiplier"] = o.val_multiplier;
  return result;
}

int step_bench(int argc, char** argv) {
  Options o;
  CLI::App app("Times whole training and search steps on synthetic images");
  CLI::App* train_verb = app.add_subcommand("train", "a network trained alone");
  CLI::App* search_verb = app.add_subcommand("search", "a search step");
  app.require_subcommand(1);
  train_verb->add_option("--model", o.model, "reference network");
  search_verb->add_option("--space", o.space, "search space");
  search_verb->add_option("--val-multiplier", o.val_multiplier, "validation images per image");
  for (CLI::App* verb : {train_verb, search_verb}) {
    verb->add_option("--batch", o.batch, "images a step");
    verb->add_option("--resolution", o.resolution, "pixels");
    verb->add_option("--width", o.width, "filter multiplier");
    verb->add_option("--threads", o.threads, "0: all");
    verb->add_flag_callback(
        "--library", [&o] { o.kernels = Kernels::library; },
        "the libraries' kernels instead of our own (oneDNN; cuBLASLt, cuDNN)");
    verb->add_option("--device", o.device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
    verb->add_option("--precision", o.precision, "on a GPU: bf16 or fp32")
        ->check(CLI::IsMember({"bf16", "fp32"}));
    verb->add_option("--steps", o.steps, "timed steps");
    verb->add_option("--warmup", o.warmup, "steps before");
  }
  CLI11_PARSE(app, argc, argv);
  const bool gpu = o.device == "cuda";
  engine::Device device =
      gpu ? engine::Device::cuda(o.precision == "bf16" ? DType::bf16 : DType::f32, o.kernels)
          : engine::Device::cpu(o.threads, o.kernels);
  nlohmann::ordered_json result = train_verb->parsed() ? train(o, device) : search_step(o, device);
  result["device"] = o.device;
  result["device_name"] = device.name();
  result["precision"] = gpu ? o.precision : "fp32";
  result["threads"] = device.threads();
  result["kernels"] = o.kernels == Kernels::library ? "library" : "own";
  std::cout << result.dump() << "\n";
  return 0;
}

}  // namespace
}  // namespace tunas

int main(int argc, char** argv) {
  try {
    return tunas::step_bench(argc, argv);
  } catch (const tunas::Error& error) {
    std::cerr << error.what() << "\n";
    return static_cast<int>(error.code());
  }
}

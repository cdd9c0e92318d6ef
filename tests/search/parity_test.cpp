// Training is what PyTorch's is: from the same weights on the same batches, torchvision's networks
// have the same losses, gradients, running statistics and weights, in float32. The peer is
// parity_peer.py under Debian's python3-torch and python3-torchvision.
#include <gtest/gtest.h>

#include <cstdlib>

#include "search/family.h"
#include "search/foreign_weights.h"
#include "search/weights.h"
#include "tests/search/formula.h"
#include "tests/support/compare.h"

namespace tunas::search {
namespace {

using engine::Safetensors;
using test::relative_error;
using test::Values;

constexpr int kResolution = 48, kImages = 8, kClasses = 100;
constexpr double kRate = 0.002;
constexpr double kFirst = 1e-4;  // limit of the first step: loss and every gradient
constexpr double kLast = 1e-3;   // limit of all steps: losses, statistics and weights
// Limit of how far all weights moved, as one vector. They move by about 1e-3 of themselves, so that
// kLast alone would pass weights that were never trained.
constexpr double kMoved = 1e-3;

// The start keeps rounding small beside these limits (see place_biases in parity_peer.py);
// MobileNetV3 needs small scales for that, MobileNetV2 has the more exact gradients with scales
// of 1.
struct Case {
  const char* reference;
  Scheme scheme;
  float gamma;  // of norms, about
  float smoothing, weight_decay;
  std::size_t steps;
  double inside = 3;  // of the kinks of activations: see place_biases in parity_peer.py
};

std::vector<FormulaImages> batches(std::size_t steps) {
  std::vector<FormulaImages> all;
  all.reserve(steps);  // batches point into their images
  for (std::uint64_t step = 0; step < steps; ++step) {
    std::vector<std::uint64_t> seeds;
    for (std::uint64_t i = 0; i < kImages; ++i) seeds.push_back(1 + step * kImages + i);
    FormulaImages& made = all.emplace_back(kResolution, seeds);
    for (std::size_t i = 0; i < kImages; ++i) {
      made.batch.labels[i] = static_cast<std::int32_t>((seeds[i] * 37) % kClasses);
    }
  }
  return all;
}

/// Weights by formula; kernels before norms, whose size the output does not feel, and the
/// classifier's a fifth, so that steps move them as far as in a training.
void fill(engine::ParamStore& params, float gamma) {
  for (const engine::Param& param : params.params()) {
    std::vector<float> values = weight_values(param.name, param.shape);
    const std::size_t slash = param.name.rfind('/');
    const std::string layer = param.name.substr(0, slash);
    const bool kernel = param.name.substr(slash) == "/kernel";
    if (kernel && (params.find(layer + "/norm/gamma") || layer == "classifier")) {
      // [k][k][c] is depthwise: its fan-in is not what weight_values takes it for.
      if (param.weight.out == 1 && param.shape.size() == 3) {
        const auto taps = static_cast<std::size_t>(param.weight.k * param.weight.k);
        values = weight_values(param.name, param.shape, taps);
      }
      for (float& value : values) value *= 0.2f;
    }
    if (param.name.substr(slash) == "/gamma") {
      for (float& value : values) value *= gamma;
    }
    write_dense(params, param, values);
  }
}

/// What the peer made, by its names.
class Peer {
 public:
  explicit Peer(const std::string& file) : file_(file) {}

  Values values(const std::string& name) const {
    const Safetensors::Entry* entry = file_.find(name);
    EXPECT_NE(entry, nullptr) << name;
    if (!entry) return {};
    if (entry->type != "F64") {
      const std::vector<float> floats = file_.read_floats(name);
      return {floats.begin(), floats.end()};
    }
    Values values(elements(entry->shape));
    file_.read(name, "F64", entry->shape, values.data());
    return values;
  }

 private:
  Safetensors file_;
};

Values floats(const Safetensors& file, const std::string& name) {
  const std::vector<float> values = file.read_floats(name);
  return {values.begin(), values.end()};
}

double norm(const Values& x) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  return std::sqrt(sum);
}

void append(Values& all, const Values& more) { all.insert(all.end(), more.begin(), more.end()); }

Values minus(Values a, const Values& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return a;
}

/// The largest error of several tensors, and whose it is.
struct Worst {
  double error = -1;
  std::string name;

  void see(double e, const std::string& n) {
    if (!(e <= error)) *this = {e, n};
  }
};

std::ostream& operator<<(std::ostream& out, const Worst& worst) {
  return out << worst.error << " (" << worst.name << ")";
}

class Parity : public testing::Test {
 protected:
  void SetUp() override {
    // That the packages are there, not that they work: broken ones shall not pass for absent ones.
    const char* there =
        "/usr/bin/python3 -c 'import importlib.util as u, sys;"
        " sys.exit(not (u.find_spec(\"torch\") and u.find_spec(\"torchvision\")))' 2>/dev/null";
    if (std::system(there) != 0) {
      GTEST_SKIP() << "no PyTorch; apt-get install python3-torch python3-torchvision";
    }
  }

  void check(const Case& tested) {
    const std::vector<FormulaImages> steps = batches(tested.steps);
    ask_peer(tested, steps);
    if (HasFatalFailure()) return;
    const Safetensors start(folder_.path("start"));
    const Space space = fitted(Space::named(tested.reference), Origin::reference, start);
    const Peer peer(folder_.path("made"));
    EXPECT_GT(peer.values("kink")[0], 5 * peer.values("rounding")[0])
        << "the comparison hangs on rounding, see place_biases in parity_peer.py";
    const auto network = training_network(tested, space, steps[0]);
    const Plan plan = network->supernet().plan(Arch::largest(space));
    Values losses;
    for (std::size_t step = 0; step < steps.size(); ++step) {
      network->train_shard(steps[step].batch, plan, static_cast<std::uint32_t>(step), 0);
      if (step == 0) check_gradients(tested, space, network->params(), peer);
      network->update(kRate);
      losses.push_back(network->wait().back().loss);
    }
    check_losses(losses, peer);
    check_last(tested, space, network->params(), peer);
  }

 private:
  void ask_peer(const Case& tested, const std::vector<FormulaImages>& steps) {
    Space space = Space::named(tested.reference);
    space.classes = kClasses;
    Model given(device_, space);
    fill(given.params, tested.gamma);
    save_foreign_weights(given.params, space, tested.scheme, folder_.path("given"), {});
    std::vector<float> images;
    std::vector<std::int64_t> labels;
    for (const FormulaImages& step : steps) {
      const std::vector<float> planes = step.planes();
      images.insert(images.end(), planes.begin(), planes.end());
      labels.insert(labels.end(), step.batch.labels.begin(), step.batch.labels.end());
    }
    const auto count = static_cast<std::int64_t>(steps.size());
    engine::write_safetensors(
        folder_.path("batches"),
        {{"images", "F32", {count, kImages, 3, kResolution, kResolution}, images.data()},
         {"labels", "I64", {count, kImages}, labels.data()}},
        {{"network", tested.reference},
         {"inside", std::to_string(tested.inside)},
         {"smoothing", std::to_string(tested.smoothing)},
         {"rate", std::to_string(kRate)},
         {"momentum", "0.9"},
         {"weight_decay", std::to_string(tested.weight_decay)},
         {"bn_momentum", "0.1"}});
    std::string command = "/usr/bin/python3 " TUNAS_SOURCE_DIR "/tests/search/parity_peer.py";
    for (const char* file : {"given", "batches", "start", "made"}) {
      command += ' ';
      command += folder_.path(file);
    }
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
  }

  std::unique_ptr<Network> training_network(const Case& tested, const Space& space,
                                            const FormulaImages& images) {
    NetworkConfig config;
    config.supernet.resolution = kResolution;
    config.supernet.preprocess = images.preprocess;
    config.supernet.running_averages = true;
    config.supernet.momentum = 0.9f;
    config.supernet.weight_decay = 0;  // it is the optimizer's, of every parameter
    config.optimizer.kind = engine::Optimizer::Kind::sgd;
    config.optimizer.weight_decay = tested.weight_decay;
    config.train_batch = config.validation_batch = kImages;
    config.label_smoothing = tested.smoothing;
    auto network = std::make_unique<Network>(device_, space, config);
    load_weights_any(*network, folder_.path("start"));
    return network;
  }

  /// A shift behind which only convolutions and norms come does nothing: its gradient is zero but
  /// for rounding, and is held to that of the norm's scale.
  void check_gradients(const Case& tested, const Space& space, const engine::ParamStore& params,
                       const Peer& peer) {
    Model gradients(device_, space);
    for (const engine::Param& param : params.params()) {
      if (param.weight.running) continue;
      gradients.params.write(param, {params.grad(param.weight), param.stored()});
    }
    save_foreign_weights(gradients.params, space, tested.scheme, folder_.path("gradients"), {});
    const Safetensors ours(folder_.path("gradients"));
    Worst worst, exact, peers;
    Values all, all_peer;
    int zero = 0;
    for (const Safetensors::Entry& entry : ours.entries()) {
      if (entry.type != "F32" || entry.name.find(".running_") != std::string::npos) continue;
      const Values got = floats(ours, entry.name);
      const Values want = peer.values("float32/gradient/" + entry.name);
      const Values truth = peer.values("float64/gradient/" + entry.name);
      append(all, got);
      append(all_peer, want);
      if (norm(truth) > 1e-9) {
        const double error = relative_error(got, want);
        EXPECT_LE(error, kFirst) << entry.name << ": to PyTorch's float64 "
                                 << relative_error(got, truth) << ", PyTorch's float32 to it "
                                 << relative_error(want, truth);
        worst.see(error, entry.name);
        exact.see(relative_error(got, truth), entry.name);
        peers.see(relative_error(want, truth), entry.name);
        continue;
      }
      ++zero;
      ASSERT_TRUE(entry.name.ends_with(".bias")) << entry.name;
      const std::string scale = entry.name.substr(0, entry.name.size() - 4) + "weight";
      EXPECT_LE(norm(got), kFirst * norm(peer.values("float64/gradient/" + scale))) << entry.name;
    }
    EXPECT_EQ(zero, projections(space));
    EXPECT_LE(relative_error(all, all_peer), kFirst);
    std::cout << "gradients: " << relative_error(all, all_peer) << ", worst " << worst
              << "; to float64 " << exact << ", PyTorch's " << peers << "\n";
  }

  static int projections(const Space& space) {
    int count = 0;
    for (const Block& block : space.blocks) {
      for (const Layer& layer : block.layers) {
        count += layer.kind == LayerKind::bottleneck || layer.kind == LayerKind::separable;
      }
    }
    return count;
  }

  static void check_losses(const Values& losses, const Peer& peer) {
    const Values want = peer.values("float32/loss");
    ASSERT_EQ(losses.size(), want.size());
    std::cout << "losses:";
    for (std::size_t step = 0; step < losses.size(); ++step) {
      const double error = std::abs(losses[step] - want[step]) / want[step];
      EXPECT_LE(error, step == 0 ? kFirst : kLast) << "step " << step;
      std::cout << " " << losses[step] << " (" << error << ")";
    }
    std::cout << "\n";
  }

  void check_last(const Case& tested, const Space& space, const engine::ParamStore& params,
                  const Peer& peer) {
    save_foreign_weights(params, space, tested.scheme, folder_.path("last"), {});
    const Safetensors ours(folder_.path("last")), start(folder_.path("start"));
    Worst worst, peers;
    Values moved, peer_moved;
    for (const Safetensors::Entry& entry : ours.entries()) {
      if (entry.type != "F32") continue;
      const Values got = floats(ours, entry.name);
      const Values want = peer.values("float32/final/" + entry.name);
      const double error = relative_error(got, want);
      EXPECT_LE(error, kLast) << entry.name;
      worst.see(error, entry.name);
      peers.see(relative_error(want, peer.values("float64/final/" + entry.name)), entry.name);
      if (entry.name.find(".running_") != std::string::npos) continue;
      const Values before = floats(start, entry.name);
      append(moved, minus(got, before));
      append(peer_moved, minus(want, before));
    }
    EXPECT_LE(relative_error(moved, peer_moved), kMoved);
    std::cout << "after " << tested.steps << " steps: worst " << worst << "; PyTorch's to float64 "
              << peers << "; movement of the weights " << relative_error(moved, peer_moved) << "\n";
  }

  engine::Device device_ = engine::Device::cpu(2);
  TestFolder folder_{"tunas_parity"};
};

TEST_F(Parity, MobileNetV2TrainsAsInPyTorch) {
  check({"mobilenet_v2", Scheme::torchvision_v2, 1, 0.1f, 4e-5f, 10});
}

TEST_F(Parity, MobileNetV3LargeTrainsAsInPyTorch) {
  check({"mobilenet_v3_large", Scheme::torchvision_v3, 0.5f, 0, 4e-5f, 10});
}

TEST_F(Parity, GradientsAreThoseOfPyTorchWhereActivationsHaveTheirKinks) {
  // A third of the inputs lies beyond kinks, where trainings start; only one step can be compared.
  check({"mobilenet_v2", Scheme::torchvision_v2, 1, 0.1f, 4e-5f, 1, 0.5});
  check({"mobilenet_v3_large", Scheme::torchvision_v3, 1, 0.1f, 4e-5f, 1, 0.5});
}

TEST_F(Parity, WeightDecayIsOfEveryParameter) {
  // In three steps this decay takes 5% off every tensor; the usual one shows in no single one.
  check({"mobilenet_v3_large", Scheme::torchvision_v3, 0.5f, 0.1f, 5, 3});
}

}  // namespace
}  // namespace tunas::search

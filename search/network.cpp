#include "search/network.h"

#include <algorithm>
#include <type_traits>

#include "engine/ops/softmax_xent.h"
#include "kernels/error.h"

namespace tunas::search {

using engine::Arena;
using engine::Inputs;
using engine::Pass;
using engine::Range;
using engine::Tape;

namespace {

/// Smaller architectures leave gaps that the largest one does not have: an eighth for them.
std::size_t with_gaps(std::size_t bytes) { return bytes + bytes / 8; }

int most_images(const NetworkConfig& config) {
  return std::max(config.train_batch, config.validation_batch);
}

struct Batches {
  int train, validation;
};

/// The batches of the configuration, scaled so that the larger one has `images`.
Batches share(const NetworkConfig& config, int images) {
  const auto part = [&](int of) {
    return std::max(1, static_cast<int>(static_cast<long>(images) * of / most_images(config)));
  };
  return {part(config.train_batch), part(config.validation_batch)};
}

}  // namespace

Network::Network(engine::Device& device, const Space& space, const NetworkConfig& config,
                 engine::Comm& comm)
    : device_(&device),
      comm_(&comm),
      config_(config),
      supernet_(space, params_, config.supernet),
      arena_(Arena::dry()),
      tape_(device.stream(), arena_, params_, device.activation_type()),
      results_(device, most_images(config),
               config.logits == NetworkConfig::Logits::keep ? logit_row() : 0),
      inputs_(device),
      graphs_(device) {
  const std::size_t there = device.available() / 16 * 15;  // inputs and the driver have the rest
  if (parameter_bytes() <= there) {
    params_.allocate(device, config.shards, config.optimizer.states(), comm);
    average_ = engine::WeightAverage(params_, config.average);
  }
  check_memory(there);
  params_.init(config.seed);
  config_.optimizer.start(params_);
  tape_.watch(results_.origin());
  activations_ =
      device.alloc(with_gaps(dry_run_bytes(config.train_batch, config.validation_batch)));
  arena_ = Arena(activations_.data(), activations_.bytes());
}

namespace {

const char* name_of(Pass pass) {
  switch (pass) {
    case Pass::train:
      return "forward";
    case Pass::search_validation:
      return "validation";
    case Pass::evaluate:
      return "evaluation";
  }
  return "";
}

}  // namespace

std::size_t Network::dry_run_bytes(int train_images, int validation_images) {
  const Plan plan = supernet_.plan(Arch::largest(supernet_.space()));
  Tally tally;
  Arena arena = Arena::dry();
  Tape tape({Kind::dry, &tally}, arena, params_, device_->activation_type());
  Inputs inputs;
  inputs.n = train_images;
  tape.reset(Pass::train);
  forward(tape, inputs, plan);
  tape.backward();
  inputs.n = validation_images;
  tape.reset(Pass::search_validation);
  forward(tape, inputs, plan);
  return arena.peak();
}

/// Of everything, if the larger of the two batches had `images` and the other as many as its share.
std::size_t Network::bytes(int images) {
  const Batches batches = share(config_, images);
  return parameter_bytes() + with_gaps(dry_run_bytes(batches.train, batches.validation));
}

void Network::check_memory(std::size_t there) {
  const auto mib = [](std::size_t bytes) { return bytes >> 20; };
  if (parameter_bytes() > there) {
    fail(Exit::memory, supernet_.space().name, " needs ", mib(parameter_bytes()),
         " MiB of memory for its parameters alone, there are ", mib(there),
         "; use a smaller --width");
  }
  const int wanted = most_images(config_);
  const std::size_t need = bytes(wanted);
  if (need <= there) return;
  int fits = 0;
  for (int least = 1, most = wanted - 1; least <= most;) {
    const int middle = least + (most - least) / 2;
    if (bytes(middle) <= there) {
      fits = middle;
      least = middle + 1;
    } else {
      most = middle - 1;
    }
  }
  const bool trains = config_.train_batch > 1;
  const Batches batches = share(config_, fits);
  const int images = trains ? batches.train : batches.validation;
  if (fits == 0) {
    fail(Exit::memory, supernet_.space().name, " needs ", mib(bytes(1)),
         " MiB of memory for a single image, there are ", mib(there),
         "; use a smaller --resolution or --width");
  }
  fail(Exit::memory, "passes over ", trains ? config_.train_batch : config_.validation_batch,
       " images need ", mib(need), " MiB of memory, there are ", mib(there), "; ", images,
       " images fit: use --batch-size ", trains ? images * config_.shards : images,
       trains ? " or more --shards" : "");
}

engine::Raw Network::forward(Tape& tape, const Inputs& inputs, const Plan& plan) {
  const Range here(tape.stream(), &Observer::pass, name_of(tape.pass()));
  const engine::Raw logits = supernet_.forward(tape, inputs, plan);
  engine::SoftmaxXent loss;
  loss.classes = plan.classes;
  loss.labels = inputs.labels;
  loss.smoothing = tape.pass() == Pass::evaluate ? 0 : config_.label_smoothing;
  loss.loss = results_.loss();
  loss.rank = results_.rank();
  const Tape::Layer last(tape, "loss");
  engine::softmax_xent(tape, logits, loss);
  return logits;
}

void Network::run(const Batch& batch, const PhiloxKey& key, const Plan& plan, Pass pass) {
  require(batch.size() > 0 && batch.size() <= most_images(config_), "a pass over ", batch.size(),
          " images in a network with memory for 1 to ", most_images(config_));
  const Inputs inputs = inputs_.put(batch, key);
  const auto work = [&] {
    tape_.reset(pass);
    const engine::Raw logits = forward(tape_, inputs, plan);
    if (pass == Pass::train) {
      tape_.backward();
    } else {
      results_.take(tape_.value(logits.y));
    }
  };
  const bool same = pass != Pass::train || !params_.starts_sums();  // each time
  if (config_.plans == NetworkConfig::Plans::fixed && same) {
    const auto address = [](const void* at) { return reinterpret_cast<std::uintptr_t>(at); };
    graphs_.run({static_cast<std::uintptr_t>(pass), static_cast<std::uintptr_t>(inputs.n),
                 address(inputs.crops), address(params_.grads())},
                work);
  } else {
    work();
  }
  inputs_.done();
  results_.keep(inputs.n);
}

void Network::train_shard(const Batch& batch, const Plan& plan, std::uint32_t step, int shard) {
  params_.begin_shard();
  run(batch, {config_.seed, Purpose::dropout, step, static_cast<std::uint32_t>(shard)}, plan,
      Pass::train);
  const Range sum(device_->stream(), &Observer::pass, "sum");
  params_.end_shard();
}

void Network::update(double rate) {
  const Range here(device_->stream(), &Observer::pass, "update");
  params_.finish_sum();
  kernels::Verdict* verdict = results_.verdict();
  device_->zero(verdict, sizeof *verdict);
  kernels::finite_check(device_->stream(), {params_.size(), params_.grads(), verdict});
  config_.optimizer.update(params_, rate, config_.shards, verdict);
  params_.update_running(config_.shards, verdict);
  average_.follow(params_, verdict);
}

void Network::score(const Batch& batch, const Plan& plan, Pass pass) {
  require(pass != Pass::train, "score runs forward-only passes");
  run(batch, {}, plan, pass);
}

const std::vector<Outcome>& Network::wait() {
  const std::vector<Outcome>& outcomes = results_.wait();
  if (verdict().not_finite > 0) average_.was_skipped();
  return outcomes;
}

std::vector<Outcome> Network::gather(std::span<const Outcome> mine) const {
  struct Numbers {
    double loss;
    int images, top1, top5;
    std::optional<std::uint32_t> origin;
  };
  static_assert(std::is_trivially_copyable_v<Numbers>);
  std::vector<Numbers> own, all(mine.size() * static_cast<std::size_t>(comm_->size()));
  for (const Outcome& o : mine) own.push_back({o.loss, o.images, o.top1, o.top5, o.origin});
  comm_->all_gather(own.data(), all.data(), own.size() * sizeof(Numbers));
  std::vector<Outcome> outcomes;
  for (const Numbers& n : all) {
    outcomes.push_back({n.loss, n.images, n.top1, n.top5, {}, n.origin});
  }
  return outcomes;
}

std::size_t Network::parameter_bytes() const {
  return params_.bytes(device_->activation_type(), shards(), config_.optimizer.states()) +
         (config_.average > 0 ? engine::WeightAverage::bytes(params_) : 0);
}

}  // namespace tunas::search

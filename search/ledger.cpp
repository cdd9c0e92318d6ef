#include "search/ledger.h"

#include <cstring>

#include "engine/ops/softmax_xent.h"
#include "kernels/observer.h"
#include "search/supernet.h"

namespace tunas::search {
namespace {

/// The rows of a ledger, and who fills in what kernels declare.
class Book {
 public:
  Book(const Plan& plan, DType type, int images) : images_(images) {
    const auto bytes = [type](const Moved& elements) {
      const auto size = static_cast<double>(size_of(type));
      return Moved{size * elements.forward, size * elements.backward};
    };
    rows_.push_back({"images", {}, {}, {}});
    for (const LayerMoves& layer : layer_moves(plan)) {
      rows_.push_back({layer.layer, bytes(layer.composed), {}, bytes(layer.floor)});
    }
    rows_.push_back({"loss", {}, {}, {}});
    observer_.self = this;
    observer_.begin = [](void* self, std::string_view, const Cost& cost) {
      static_cast<Book*>(self)->declare(cost.bytes());
    };
    observer_.end = [](void*) {};
  }
  Observer* observer() { return &observer_; }
  std::vector<LedgerRow> rows() && { return std::move(rows_); }

 private:
  void declare(double bytes) {
    for (LedgerRow& row : rows_) {
      if (row.layer != observer_.layer) continue;
      const bool backward = std::strcmp(observer_.pass, "backward") == 0;
      (backward ? row.fused.backward : row.fused.forward) += bytes / images_;
      return;
    }
  }

  int images_;
  std::vector<LedgerRow> rows_;
  Observer observer_;
};

}  // namespace

std::vector<LedgerRow> ledger(const Space& space, const Arch& arch, DType type, int images) {
  const Space alone = space.only(arch);
  engine::ParamStore params;
  SupernetConfig config;
  config.resolution = space.resolution;
  config.running_averages = true;
  const Supernet network(alone, params, config);
  const engine::Device host = engine::Device::cpu(1);
  params.allocate(host, 1, 0);

  const Plan plan = network.plan(Arch::largest(alone));
  Book book(plan, type, images);
  Tally tally;
  engine::Arena arena = engine::Arena::dry();
  engine::Tape tape({Kind::dry, &tally, book.observer()}, arena, params, type);
  engine::Inputs inputs;
  inputs.n = images;
  tape.reset(engine::Pass::train);
  const engine::Raw logits = network.forward(tape, inputs, plan);
  {
    const engine::Tape::Layer last(tape, "loss");
    engine::SoftmaxXent loss;
    loss.classes = plan.classes;
    engine::softmax_xent(tape, logits, loss);
  }
  tape.backward();
  return std::move(book).rows();
}

LedgerRow total(const std::vector<LedgerRow>& rows) {
  LedgerRow sum{"total", {}, {}, {}};
  for (const LedgerRow& row : rows) {
    sum.composed += row.composed;
    sum.fused += row.fused;
    sum.floor += row.floor;
  }
  return sum;
}

}  // namespace tunas::search

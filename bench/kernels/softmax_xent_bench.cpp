// Loss and rank of the validation batch of a search step, and with the gradient of a training
// batch; `c`: the classes.
#include "kernels/softmax_xent.h"

#include "bench/kernels/problems.h"

namespace tunas::bench {
namespace {

using namespace kernels;

struct Loss {
  Floats logits, dlogits, loss;
  std::vector<std::int32_t> labels, rank;
  SoftmaxXent forward, both;

  explicit Loss(const Problem& p)
      : logits(p.rows() * round_up_8(p.c.now)),
        dlogits(p.rows() * round_up_8(p.c.now)),
        loss(p.n),
        labels(static_cast<std::size_t>(p.n)),
        rank(labels.size()) {
    for (int i = 0; i < p.n; ++i) labels[static_cast<std::size_t>(i)] = i * 37 % p.c.now;
    forward.logits = {logits.get(), DType::f32, p.n, p.h, p.w, round_up_8(p.c.now)};
    forward.classes = p.c.now;
    forward.labels = labels.data();
    forward.smoothing = 0.1f;
    forward.loss = loss.get();
    forward.rank = rank.data();
    both = forward;
    both.dlogits = forward.logits;
    both.dlogits.data = dlogits.get();
  }
};

void add(const Bench& bench) {
  bench.add("", &Loss::forward, softmax_xent);
  bench.add(" with gradient", &Loss::both, softmax_xent);
}

}  // namespace
}  // namespace tunas::bench

int main(int argc, char** argv) {
  return tunas::bench::main(argc, argv,
                            {
                                "softmax_xent n=16 c=10",
                                "softmax_xent n=16 c=1001",
                                "softmax_xent n=64 c=1001",
                            },
                            tunas::bench::add);
}

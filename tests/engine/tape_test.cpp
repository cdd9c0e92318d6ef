// The tape: order of closures, gradient slots, memory given back on the way.
#include "engine/tape.h"

#include <gtest/gtest.h>

#include "kernels/error.h"

namespace tunas::engine {
namespace {

struct TapeTest : testing::Test {
  Device device = Device::cpu(1);
  ParamStore params;
  std::vector<char> memory = std::vector<char>(1 << 16);
  Arena arena{memory.data(), memory.size()};
  Tape tape{device.stream(), arena, params};
};

TEST_F(TapeTest, BackwardRunsFromTheEnd) {
  tape.reset(Pass::train);
  static std::vector<int> order;
  order.clear();
  for (int i = 0; i < 4; ++i) tape.push([i](Tape&) { order.push_back(i); });
  tape.backward();
  EXPECT_EQ(order, (std::vector<int>{3, 2, 1, 0}));
}

TEST_F(TapeTest, TheFirstWriterOverwritesLaterOnesAccumulate) {
  tape.reset(Pass::train);
  const Var x = tape.activation(1, 2, 2, 8);
  EXPECT_FALSE(tape.grad(x));
  EXPECT_EQ(tape.grad_slot(x).how, Write::overwrite);
  EXPECT_EQ(tape.grad_slot(x).how, Write::accumulate);
  EXPECT_EQ(tape.grad(x).c, 8);
  const Var image = tape.activation(1, 2, 2, 4, Tape::Gradient::none);
  EXPECT_FALSE(tape.grad_slot(image).grad);
}

TEST_F(TapeTest, BackwardReturnsTheMemoryOfEachOp) {
  tape.reset(Pass::train);
  const Var image = tape.activation(1, 4, 4, 4, Tape::Gradient::none);
  (void)image;
  static std::size_t used[3];
  for (int i = 0; i < 3; ++i) {
    const Var y = tape.activation(1, 4, 4, 8);
    tape.push([i, y, this_arena = &arena](Tape& t) {
      t.grad_slot(y);
      used[i] = this_arena->used();
    });
  }
  tape.backward();
  const std::size_t tensor = 4 * 4 * 8 * 4, picture = 4 * 4 * 4 * 4;
  EXPECT_EQ(used[2], picture + 4 * tensor);
  EXPECT_EQ(used[1], picture + 3 * tensor);
  EXPECT_EQ(used[0], picture + 2 * tensor);
}

TEST_F(TapeTest, ASharedGradientIsOneStorage) {
  tape.reset(Pass::train);
  const Var a = tape.activation(1, 4, 4, 8), b = tape.activation(1, 4, 4, 8);
  const Var sum = tape.activation(1, 4, 4, 8);
  const Tensor grad = tape.grad_slot(sum).grad;
  const std::size_t used = arena.used();
  tape.share_grad(a, sum);
  tape.share_grad(b, a);
  EXPECT_EQ(arena.used(), used) << "no memory of their own";
  EXPECT_EQ(tape.grad(a).data, grad.data);
  EXPECT_EQ(tape.grad(b).data, grad.data);
  for (const Var v : {a, b, sum}) {
    EXPECT_EQ(tape.grad_slot(v).how, Write::accumulate);
    EXPECT_EQ(tape.grad_slot(v).grad.data, grad.data);
  }
}

/// A chain of `blocks` residual sums; the sum of each shares its gradient with what it was made of.
/// What is in use before each block's closures goes to `used`, from the last one on.
void run_residuals(Tape& tape, const Arena& arena, int blocks, std::vector<std::size_t>& used) {
  tape.reset(Pass::train);
  used.clear();
  tape.push([](Tape&) {});
  Var x = tape.activation(1, 4, 4, 8);
  for (int i = 0; i < blocks; ++i) {
    const Var y = tape.activation(1, 4, 4, 8);
    tape.push([x, y](Tape& t) {
      EXPECT_EQ(t.grad(x).data, t.grad(y).data);
      EXPECT_EQ(t.grad_slot(x).how, Write::accumulate);
    });
    const Var sum = tape.activation(1, 4, 4, 8);
    tape.push([=, &arena, &used](Tape& t) {
      if (!t.grad(sum)) t.grad_slot(sum);
      t.share_grad(x, sum);
      t.share_grad(y, sum);
      used.push_back(arena.used());
    });
    x = sum;
  }
  tape.backward();
}

TEST_F(TapeTest, SharedMemoryReturnsOnceWithItsLastOwner) {
  const std::size_t tensor = 4 * 4 * 8 * 4;
  std::vector<std::size_t> used;
  for (int pass = 0; pass < 2; ++pass) {
    run_residuals(tape, arena, 3, used);
    // The values of x, of the blocks that are left (two each), and one gradient for all.
    EXPECT_EQ(used, (std::vector<std::size_t>{8 * tensor, 6 * tensor, 4 * tensor}));
    EXPECT_EQ(arena.peak(), 8 * tensor);
    EXPECT_EQ(arena.used(), 0u);
  }
  EXPECT_NE(arena.alloc(memory.size()), nullptr) << "everything is one piece again";
}

TEST_F(TapeTest, ADryRunFindsThePeakOfSharedGradients) {
  Arena dry = Arena::dry();
  Tape measuring(device.stream(), dry, params);
  std::vector<std::size_t> used;
  run_residuals(measuring, dry, 5, used);
  EXPECT_EQ(dry.used(), 0u);
  run_residuals(tape, arena, 5, used);
  EXPECT_EQ(dry.peak(), arena.peak());
}

TEST_F(TapeTest, ResetForgetsWhoShared) {
  for (int pass = 0; pass < 2; ++pass) {
    tape.reset(Pass::train);
    tape.push([](Tape&) {});
    const Var a = tape.activation(1, 4, 4, 8), b = tape.activation(1, 4, 4, 8);
    tape.grad_slot(b);
    tape.share_grad(a, b);
    tape.push([](Tape&) {});
    EXPECT_EQ(arena.used(), 3 * tape.value(a).bytes());
  }
  tape.backward();
  EXPECT_EQ(arena.used(), 0u);
}

TEST_F(TapeTest, SharingRefusesWhatCannotBeOne) {
  tape.reset(Pass::train);
  const Var from = tape.activation(1, 4, 4, 8), to = tape.activation(1, 4, 4, 8);
  const Var wide = tape.activation(1, 4, 4, 16);
  EXPECT_THROW(tape.share_grad(to, from), Error) << "nobody has written it";
  tape.grad_slot(from);
  EXPECT_THROW(tape.share_grad(wide, from), Error);
  tape.grad_slot(to);
  EXPECT_THROW(tape.share_grad(to, from), Error) << "it has one of its own";
  const Var image = tape.activation(1, 4, 4, 8, Tape::Gradient::none);
  tape.share_grad(image, from);
  EXPECT_FALSE(tape.grad(image)) << "no gradient is wanted";
}

TEST_F(TapeTest, CountsWhoReads) {
  tape.reset(Pass::train);
  const Var x = tape.activation(1, 2, 2, 8), y = tape.activation(1, 2, 2, 8);
  tape.read(x);
  tape.read(x);
  EXPECT_EQ(tape.readers(x), 2);
  EXPECT_EQ(tape.readers(y), 0);
  tape.reset(Pass::train);
  EXPECT_EQ(tape.readers(tape.activation(1, 2, 2, 8)), 0);
}

TEST_F(TapeTest, AForwardOnlyPassKeepsWhatItIsTold) {
  tape.reset(Pass::search_validation);
  tape.push([](Tape&) { FAIL() << "nothing is recorded"; });
  const int mark = tape.mark();
  const Var a = tape.activation(1, 4, 4, 8);
  const Var b = tape.activation(1, 4, 4, 8);
  tape.release(mark, {b});
  EXPECT_EQ(arena.used(), tape.value(b).bytes());
  EXPECT_FALSE(tape.value(a));
  tape.release(mark, {b});
  EXPECT_EQ(arena.used(), tape.value(b).bytes()) << "released once";
  tape.backward();
}

TEST_F(TapeTest, ManyClosuresFillChunksAndAllRun) {
  static int runs;
  for (int pass = 0; pass < 2; ++pass) {
    tape.reset(Pass::train);
    runs = 0;
    for (int i = 0; i < 1000; ++i) {
      struct Payload {
        int value[100];
      } payload{};
      payload.value[99] = i;
      tape.push([payload, i](Tape&) { runs += payload.value[99] == i; });
    }
    tape.backward();
    EXPECT_EQ(runs, 1000);
  }
}

}  // namespace
}  // namespace tunas::engine

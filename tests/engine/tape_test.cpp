// The tape: order of closures, gradient slots, memory given back on the way.
#include "engine/tape.h"

#include <gtest/gtest.h>

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

TEST_F(TapeTest, ASharedGradientIsCopiedForWhoAddsToIt) {
  tape.reset(Pass::train);
  const Var x = tape.activation(1, 4, 4, 8);
  const std::size_t tensor = tape.value(x).bytes();
  static std::size_t used[2];
  static float seen[3];
  tape.push([x](Tape& t) { seen[2] = t.grad(x).f32()[5]; });
  const Var early = tape.activation(1, 4, 4, 8);
  tape.push([early](Tape& t) { seen[1] = t.grad(early).f32()[5]; });
  const Var sum = tape.activation(1, 4, 4, 8);
  tape.push([=, this](Tape& t) {
    const Tensor grad = t.grad_slot(sum).grad;
    std::fill_n(grad.f32(), grad.size(), 3.0f);
    t.share_grad(early, sum);
    t.share_grad(x, sum);
    EXPECT_TRUE(t.grad(x));
    used[0] = arena.used();
    const Tape::Slot own = t.grad_slot(x);  // `early` has not been read yet
    EXPECT_EQ(own.how, Write::accumulate);
    own.grad.f32()[5] += 4;
    seen[0] = t.grad(early).f32()[5];
    used[1] = arena.used();
  });
  tape.backward();
  EXPECT_EQ(used[0], 4 * tensor) << "three values, one gradient";
  EXPECT_EQ(used[1], 5 * tensor);
  EXPECT_EQ(seen[0], 3);
  EXPECT_EQ(seen[1], 3);
  EXPECT_EQ(seen[2], 7);
  tape.reset(Pass::train);
  EXPECT_EQ(arena.used(), 0u);
}

TEST_F(TapeTest, TheLastOwnerOfASharedGradientAddsInPlace) {
  tape.reset(Pass::train);
  const Var x = tape.activation(1, 4, 4, 8);
  static const void* shared;
  tape.push([x](Tape& t) {
    EXPECT_EQ(t.grad_slot(x).how, Write::accumulate);
    EXPECT_EQ(t.grad(x).data, shared);
  });
  const Var y = tape.activation(1, 4, 4, 8);
  tape.push([=](Tape& t) {
    shared = t.grad_slot(y).grad.data;
    t.share_grad(x, y);
  });
  tape.backward();
  EXPECT_EQ(arena.used(), 2 * tape.value(x).bytes()) << "y is gone";
}

TEST_F(TapeTest, AGradientIsReplacedInPlaceUnlessOthersShareIt) {
  tape.reset(Pass::train);
  const Var early = tape.activation(1, 4, 4, 8);
  static const void* shared;
  tape.push([early](Tape& t) {
    t.defer(early, {2, Act::relu, {}, Tape::Deferral::To::next_reader});
    EXPECT_EQ(t.replace_grad(early).data, shared) << "its last owner";
    EXPECT_FALSE(t.deferral(early));
  });
  const Var x = tape.activation(1, 4, 4, 8);
  const std::size_t tensor = tape.value(x).bytes();
  tape.push([=, this](Tape& t) {
    const std::size_t used = arena.used();
    const Tensor own = t.replace_grad(x);
    EXPECT_NE(own.data, shared) << "`early` is still to read it";
    EXPECT_EQ(own.data, t.grad(x).data);
    EXPECT_EQ(t.grad(early).data, shared);
    EXPECT_EQ(arena.used(), used + tensor);
    EXPECT_EQ(t.grad_slot(x).how, Write::accumulate);
  });
  const Var sum = tape.activation(1, 4, 4, 8);
  tape.push([=](Tape& t) {
    shared = t.grad_slot(sum).grad.data;
    t.share_grad(early, sum);
    t.share_grad(x, sum);
  });
  tape.backward();
  EXPECT_EQ(arena.used(), 2 * tensor) << "what the first op made";
}

TEST_F(TapeTest, ReadersAreCountedInForward) {
  tape.reset(Pass::train);
  const Var x = tape.activation(1, 2, 2, 8);
  tape.read(x);
  tape.read(x);
  tape.push([x](Tape& t) {
    t.read(x);
    EXPECT_EQ(t.readers(x), 2);
  });
  tape.backward();
}

TEST_F(TapeTest, AnUnstoredActivationTakesMemoryWhenItIsWanted) {
  tape.reset(Pass::train);
  const Var x = tape.unstored(1, 4, 4, 8);
  EXPECT_EQ(arena.used(), 0u);
  EXPECT_FALSE(tape.value(x));
  EXPECT_EQ(tape.value(x).c, 8);
  const Tensor stored = tape.store(x);
  EXPECT_EQ(stored.data, tape.value(x).data);
  EXPECT_EQ(arena.used(), tape.value(x).bytes());
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

// The names by which ops know a pass and its values; what they stand for lies on the tape (tape.h).
#pragma once

namespace tunas::engine {

/// A value of the pass; false: none.
struct Var {
  int id = -1;
  explicit operator bool() const { return id >= 0; }
};

/// What a pass is for. `search_validation` and training use batch statistics; `evaluate` uses the
/// running averages of a network trained alone. Only `train` records closures.
enum class Pass : unsigned char { train, search_validation, evaluate };

}  // namespace tunas::engine

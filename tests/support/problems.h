// Problems as strings, shared by tests and benches:
//
//   depthwise n=2 hw=28 c=240/512 k=5 s=2 pad=symmetric act=relu6 norm gate
//
// The operation, then `key=value` and flags in any order. Widths are active/stored, or one number
// for both. c: channels of the input, o: of the output, e: of what is expanded to the input (which
// then is not stored).
#pragma once

#include <string>
#include <string_view>

#include "kernels/types.h"
#include "kernels/width.h"

namespace tunas::test {

struct Problem {
  std::string text;
  std::string op;
  int n = 1, h = 1, w = 1;  // hw=9 sets both
  Width c{8, 8}, o{8, 8}, e{0, 0};
  int k = 1, s = 1;
  int size = 1;                     // parameters of an update
  Padding padding = Padding::same;  // pad=same|symmetric
  Act act = Act::none;              // act=none|relu|relu6|hard_swish|sigmoid|hard_sigmoid
  bool norm = false;                // the input is normalised on load, and backward wants its sums
  bool gate = false;                // the input is gated
  bool bias = false;
  bool accumulate = false;  // gradients of the input are added to what is there
  // What the reader of the output left to backward (Deferred of kernels/source.h): `deferred` the
  // gradient of the activated value, `spread` one for each image, which alone comes without dz.
  bool deferred = false, spread = false;
  bool slopes = false;    // a gated input's reader leaves the slope sums of each image
  bool addend = false;    // another reader left the gradient of the input something to add
  bool in_place = false;  // the output is written over the input where the contract allows it

  /// Throws Error(usage) naming the problem and the word that cannot be read.
  static Problem parse(std::string_view text);

  long rows() const { return static_cast<long>(n) * h * w; }
};

/// The name that `act=` takes.
const char* name(Act act);

/// A problem as the parameter of a test.
inline std::ostream& operator<<(std::ostream& out, const Problem& problem) {
  return out << problem.text;
}

}  // namespace tunas::test

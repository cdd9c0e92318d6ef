// Assembly: a network put together layer by layer from somebody else's description, as a Space with
// one point. A layer whose output joins its input stays in the block of the layer before it; any
// other opens a block.
#pragma once

#include <string>

#include "search/space.h"

namespace tunas::search {

/// A depthwise convolution between pointwise ones.
struct MobileLayer {
  int kernel = 3, stride = 1;
  int c_exp = 0;         // channels of the depthwise convolution; 0: no expansion in front of it
  double expansion = 0;  // how the description put it; kept where it gives c_exp
  int c_out = 0;
  bool squeeze_excite = false;
  bool residual = false;
  Act act = Act::relu, gate = Act::sigmoid;
};

class Assembly {
 public:
  /// `where` names the description in errors.
  Assembly(std::string name, std::string where);

  /// The k x k convolution on the images, with batch norm.
  void stem(int kernel, int stride, int filters, Act act);
  /// `place` names the layer in errors.
  void mobile(const MobileLayer& layer, const std::string& place);
  enum class Bias : unsigned char { batch_norm, bias };
  /// A pointwise convolution.
  void pointwise(int filters, Act act, Bias bias);
  void pool();

  int width() const { return width_; }
  /// Name, resolution, classes and the like; its blocks are added by finish.
  Space& space() { return space_; }
  /// Error(Exit::usage) where the layers are none that this engine can run.
  Space finish();

 private:
  void open(int filters, const std::string& place);
  void activation(Act act);

  std::string where_;
  Space space_;
  int width_ = 3;
};

}  // namespace tunas::search

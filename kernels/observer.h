// Observer: what a Stream may carry to see each kernel call that on() makes, with its declared
// cost. A profile is made of these. A stream without one pays a branch a call.
#pragma once

#include <string_view>

#include "kernels/cost.h"

namespace tunas {

struct Observer {
  void (*begin)(void* self, std::string_view kernel, const Cost& cost) = nullptr;
  void (*end)(void* self) = nullptr;
  void* self = nullptr;
  /// Where in a step the calls to come are; engine/range.h says so.
  const char* pass = "";
  const char* layer = "";
};

/// "pointwise_backward" of the function tunas::kernels::cpu::pointwise_backward: a kernel is one
/// name, and this is where it stands. The characters are the program's, for good.
template <auto Kernel>
constexpr std::string_view kernel_name() {
  constexpr std::string_view folder = "cpu::";
  std::string_view name = __PRETTY_FUNCTION__;
  name.remove_prefix(name.rfind(folder) + folder.size());
  return name.substr(0, name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_0123456789"));
}

}  // namespace tunas

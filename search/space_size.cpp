// How many architectures a space holds, in exact decimal digits: products of small numbers that
// pass 10^43, so they are kept in limbs of nine digits.
#include <cstdint>
#include <cstdio>

#include "search/space.h"

namespace tunas::search {
namespace {

class Product {
 public:
  /// `factor` must be below 2^32.
  void multiply(std::uint64_t factor) {
    std::uint64_t carry = 0;
    for (std::uint64_t& limb : limbs_) {
      const std::uint64_t value = limb * factor + carry;
      limb = value % kBase;
      carry = value / kBase;
    }
    if (carry > 0) limbs_.push_back(carry);
  }

  std::string digits() const {
    std::string text = std::to_string(limbs_.back());
    for (auto limb = limbs_.rbegin() + 1; limb != limbs_.rend(); ++limb) {
      const std::string nine = std::to_string(*limb);
      text += std::string(9 - nine.size(), '0') + nine;
    }
    return text;
  }

 private:
  static constexpr std::uint64_t kBase = 1'000'000'000;
  std::vector<std::uint64_t> limbs_{1};
};

}  // namespace

std::string Space::count() const {
  Product product;
  for (const Decision& decision : decisions) product.multiply(decision.options.size());
  return product.digits();
}

std::string Space::count_distinct() const {
  Product product;
  for (const Block& block : blocks) {
    product.multiply(block.filters.size());
    for (const Layer& layer : block.layers) {
      std::uint64_t kept = layer.kernels.size();
      if (layer.kind == LayerKind::bottleneck) {
        kept *= layer.expansions.size() * layer.squeeze_excite.size();
      }
      product.multiply(layer.skippable ? kept + 1 : kept);
    }
  }
  return product.digits();
}

}  // namespace tunas::search

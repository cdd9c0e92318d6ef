#include "search/replicas.h"

#include <algorithm>
#include <string>
#include <vector>

#include "engine/hash.h"
#include "kernels/error.h"

namespace tunas::search {
namespace {

constexpr std::size_t kDigits = 16;

/// kDigits a parameter.
std::string digests(const engine::ParamStore& params) {
  std::string all;
  std::vector<float> values;
  for (const engine::Param& param : params.params()) {
    const std::size_t stored = param.stored();
    const int states = param.weight.running ? 0 : params.states();
    values.resize(stored * static_cast<std::size_t>(1 + states));
    float* to = values.data();
    params.device().copy(to, params.data(param.weight), stored * sizeof(float));
    for (int i = 0; i < states; ++i) {
      to += stored;
      params.device().copy(to, params.state(i) + param.weight.offset, stored * sizeof(float));
    }
    params.device().sync();
    engine::Hash hash;
    hash.add(values.data(), values.size() * sizeof(float));
    all += hash.digits();
  }
  return all;
}

/// " differs ..." : who is not as the others are.
std::string difference(const std::vector<std::string>& of_ranks) {
  const auto same = [&](const std::string& digest) {
    return std::count(of_ranks.begin(), of_ranks.end(), digest);
  };
  const std::string& most = *std::max_element(
      of_ranks.begin(), of_ranks.end(),
      [&](const std::string& a, const std::string& b) { return same(a) < same(b); });
  std::vector<int> every, others;
  for (std::size_t r = 0; r < of_ranks.size(); ++r) {
    every.push_back(static_cast<int>(r));
    if (of_ranks[r] != most) others.push_back(static_cast<int>(r));
  }
  if (2 * same(most) <= static_cast<std::ptrdiff_t>(of_ranks.size())) {
    return "is not the same on " + engine::name_ranks(every);
  }
  return "is another one on " + engine::name_ranks(others) + " than on the other ranks";
}

}  // namespace

void check_replicas(engine::Comm& comm, const engine::ParamStore& params, std::int64_t step) {
  if (comm.size() == 1) return;
  const std::string mine = digests(params);
  std::string all(mine.size() * static_cast<std::size_t>(comm.size()), '\0');
  comm.all_gather(mine.data(), all.data(), mine.size());
  for (std::size_t p = 0; p < params.params().size(); ++p) {
    std::vector<std::string> of_ranks;
    for (std::size_t begin = p * kDigits; begin < all.size(); begin += mine.size()) {
      of_ranks.push_back(all.substr(begin, kDigits));
    }
    if (std::equal(of_ranks.begin() + 1, of_ranks.end(), of_ranks.begin())) continue;
    fail(Exit::numeric, "after step ", step, " ", params.params()[p].name, " ",
         difference(of_ranks),
         "; check the memory of these machines and go on from an earlier checkpoint");
  }
}

}  // namespace tunas::search

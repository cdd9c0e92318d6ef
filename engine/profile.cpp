#include "engine/profile.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>

#include "kernels/cuda_context.h"
#include "kernels/dispatch.h"
#include "kernels/parallel.h"

namespace tunas::engine {

Profile::Profile(const Stream& stream, GpuClock::Source source) {
  observer_.self = this;
  observer_.begin = [](void* self, std::string_view kernel, const Cost& cost) {
    static_cast<Profile*>(self)->begin(kernel, cost);
  };
  observer_.end = [](void* self) { static_cast<Profile*>(self)->end(); };
  if constexpr (kBuiltWithCuda) {
    if (stream.kind == Kind::cuda) {
      const auto* context = static_cast<CudaContext*>(stream.handle);
      gpu_ = std::make_shared<GpuClock>(context->stream, source);
    }
  }
}

void Profile::start() {
  calls_.clear();
  work_.clear();
  watching_ = true;
  if constexpr (kBuiltWithCuda) {
    if (gpu_) gpu_->start();
  }
  started_ = std::chrono::steady_clock::now();
}

void Profile::begin(std::string_view kernel, const Cost& cost) {
  if (!watching_) return;
  calls_.push_back({kernel, observer_.pass, observer_.layer, cost});
  if constexpr (kBuiltWithCuda) {
    if (gpu_) return gpu_->begin(static_cast<long>(calls_.size()) - 1);
  }
  const std::chrono::duration<double> since = std::chrono::steady_clock::now() - started_;
  calls_.back().begin = since.count();
}

void Profile::end() {
  if (!watching_) return;
  if constexpr (kBuiltWithCuda) {
    if (gpu_) return gpu_->end();
  }
  const std::chrono::duration<double> since = std::chrono::steady_clock::now() - started_;
  calls_.back().seconds = since.count() - calls_.back().begin;
}

void Profile::stop() {
  watching_ = false;
  const auto kept = [this](std::string_view name) -> std::string_view {
    const auto at = names_.find(name);
    return at != names_.end() ? *at : *names_.emplace(name).first;
  };
  for (Call& call : calls_) {
    call.pass = kept(call.pass);
    call.layer = kept(call.layer);
  }
  if constexpr (kBuiltWithCuda) {
    if (!gpu_) return;
    work_ = gpu_->stop();
    for (const GpuWork& work : work_) {
      if (work.call < 0) continue;
      Call& call = calls_[static_cast<std::size_t>(work.call)];
      if (call.seconds == 0) call.begin = work.begin;
      call.seconds += work.seconds;
    }
  }
}

const char* Profile::clock() const {
  if (!gpu_) return "timers";
  return refusal().empty() ? "CUPTI" : "events";
}

std::string Profile::refusal() const {
  if constexpr (kBuiltWithCuda) {
    if (gpu_) return gpu_->refusal();
  }
  return "";
}

double copy_bandwidth(const Device& device) {
  constexpr std::size_t kBytes = std::size_t{256} << 20, kPiece = std::size_t{4} << 20;
  const Memory from = device.alloc(kBytes), to = device.alloc(kBytes);
  device.zero(from.data(), kBytes);  // a page that nobody wrote is not in memory
  const auto copy = [&] {
    if (device.kind() != Kind::cpu) return device.copy(to.data(), from.data(), kBytes);
    auto& context = *static_cast<CpuContext*>(device.stream().handle);
    parallel_pieces(context, kBytes, kPiece, [&](std::size_t begin, std::size_t end) {
      std::memcpy(to.data() + begin, from.data() + begin, end - begin);
    });
  };
  // A GPU is waited for once a try, so a try is many copies there.
  const int copies = device.kind() == Kind::cpu ? 1 : 16;
  constexpr int kTries = 6;  // the first is for the pages and the clocks
  double best = 1e30;
  for (int i = 0; i < kTries; ++i) {
    device.sync();
    const auto begin = std::chrono::steady_clock::now();
    for (int c = 0; c < copies; ++c) copy();
    device.sync();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    best = std::min(best, took.count());
  }
  return 2.0 * copies * kBytes / best;
}

std::vector<Share> shares(const std::vector<Profile::Call>& calls, By by) {
  std::map<std::tuple<std::string, std::string, std::string>, Share> sums;
  for (const Profile::Call& call : calls) {
    const std::string pass(by == By::layer ? "" : call.pass);
    const std::string layer(by == By::kernel ? "" : call.layer);
    const std::string kernel(by == By::layer ? "" : call.kernel);
    Share& sum = sums[{pass, layer, kernel}];
    sum.pass = pass;
    sum.layer = layer;
    sum.kernel = kernel;
    ++sum.calls;
    sum.seconds += call.seconds;
    sum.cost += call.cost;
  }
  std::vector<Share> all;
  for (auto& [key, sum] : sums) all.push_back(std::move(sum));
  std::stable_sort(all.begin(), all.end(),
                   [](const Share& a, const Share& b) { return a.seconds > b.seconds; });
  return all;
}

}  // namespace tunas::engine

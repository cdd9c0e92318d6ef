#include "engine/nccl.h"

#include <nccl.h>

#include <chrono>
#include <cstring>
#include <exception>
#include <thread>
#include <utility>

#include "kernels/cuda_context.h"
#include "kernels/error.h"
#include "kernels/runtime.h"
#include "kernels/update.h"

namespace tunas::engine {

namespace cuda = kernels::cuda;

namespace {

CudaContext& context_of(const Device& device) {
  return *static_cast<CudaContext*>(device.stream().handle);
}

}  // namespace

struct Nccl::Parts final : Link {
  Parts(std::unique_ptr<Gloo> between, const Device& on, Sums s)
      : messages(std::move(between)), device(on), sums(s), beside(context_of(on)) {
    beside.stream = stream.get();
  }

  void connect();
  /// Throws unless `status` is good; waits while a call is under way, since none of them blocks.
  void check(ncclResult_t status, const char* what);
  [[noreturn]] void give_up(ncclResult_t status, const char* what);

  int rank() const override { return messages ? messages->rank() : 0; }
  int size() const override { return messages ? messages->size() : 1; }
  void exchange(const Exchange& exchange) override;
  void add(float* a, std::span<const float> b) override {
    kernels::add({Kind::cuda, &beside}, {b.size(), a, b.data()});
  }

  std::unique_ptr<Gloo> messages;
  const Device& device;
  Sums sums;
  cuda::OwnedStream stream = cuda::make_stream();
  cuda::OwnedEvent ready = cuda::make_event(), done = cuda::make_event();
  CudaContext beside;  // the device's, on the stream of sums
  Memory scratch;
  ncclComm_t comm = nullptr;
};

void Nccl::Parts::give_up(ncclResult_t status, const char* what) {
  const std::string why = comm != nullptr ? ncclGetLastError(comm) : "";
  if (comm != nullptr) ncclCommAbort(std::exchange(comm, nullptr));
  if (messages) messages->await_verdict();
  fail(Exit::communication, "rank ", rank(), " of ", size(), ": NCCL, ", what, ": ",
       ncclGetErrorString(status), why.empty() ? "" : " (" + why + ")",
       "; NCCL_DEBUG=INFO says more");
}

void Nccl::Parts::check(ncclResult_t status, const char* what) {
  while (status == ncclInProgress || status == ncclSuccess) {
    ncclResult_t now = ncclSuccess;
    const ncclResult_t asked = comm == nullptr ? ncclSuccess : ncclCommGetAsyncError(comm, &now);
    if (asked != ncclSuccess) now = asked;
    if (now == ncclSuccess) return;
    status = now;
    if (now == ncclInProgress) std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
  give_up(status, what);
}

void Nccl::Parts::connect() {
  ncclUniqueId identity;
  std::memset(&identity, 0, sizeof identity);
  if (rank() == 0) check(ncclGetUniqueId(&identity), "making an identity");
  if (messages) messages->broadcast(&identity, sizeof identity, 0);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  check(ncclCommInitRankConfig(&comm, size(), identity, rank(), &config), "connecting");
}

void Nccl::Parts::exchange(const Exchange& e) {
  ncclGroupStart();
  if (!e.send.empty()) {
    ncclSend(e.send.data(), e.send.size(), ncclFloat, e.to, comm, stream.get());
  }
  if (!e.receive.empty()) {
    ncclRecv(e.receive.data(), e.receive.size(), ncclFloat, e.from, comm, stream.get());
  }
  check(ncclGroupEnd(), "an exchange");
}

Nccl::Nccl(std::unique_ptr<Gloo> messages, const Device& device, Sums sums)
    : parts_(std::make_unique<Parts>(std::move(messages), device, sums)) {
  check_ranks(sums, parts_->size());
  parts_->connect();
}

Nccl::~Nccl() {
  if (parts_->comm == nullptr) return;
  if (std::uncaught_exceptions() > 0) {
    ncclCommAbort(parts_->comm);
    return;
  }
  try {
    cuda::wait(parts_->stream.get());
    parts_->check(ncclCommFinalize(parts_->comm), "ending");
  } catch (const Error&) {
    return;  // given up already; a rank that has finished has nothing to lose
  }
  ncclCommDestroy(parts_->comm);
}

int Nccl::rank() const { return parts_->rank(); }
int Nccl::size() const { return parts_->size(); }
bool Nccl::built_in() { return true; }
void Nccl::check_built_in() {}

void Nccl::all_gather(const void* mine, void* all, std::size_t bytes) {
  if (parts_->messages) return parts_->messages->all_gather(mine, all, bytes);
  if (bytes > 0) std::memcpy(all, mine, bytes);
}

void Nccl::broadcast(void* data, std::size_t bytes, int from) {
  if (parts_->messages) parts_->messages->broadcast(data, bytes, from);
}

void Nccl::start_sum(float* data, std::size_t count) {
  if (count == 0) return;
  Parts& parts = *parts_;
  if (parts.scratch.bytes() < sum_scratch(count) * sizeof(float)) {
    cuda::wait(parts.stream.get());  // the smaller one may still be read
    parts.scratch = parts.device.alloc(sum_scratch(count) * sizeof(float));
    parts.device.sync();  // it is zeroed on the device's stream
  }
  cuda::record(parts.ready.get(), context_of(parts.device).stream);
  cuda::wait(parts.stream.get(), parts.ready.get());
  if (parts.sums == Sums::fast) {
    parts.check(
        ncclAllReduce(data, data, count, ncclFloat, ncclSum, parts.comm, parts.stream.get()),
        "a sum");
  } else {
    sum(Sums::fixed, parts, {data, count}, reinterpret_cast<float*>(parts.scratch.data()));
  }
}

void Nccl::finish_sums() {
  parts_->check(ncclSuccess, "the sums so far");
  cuda::record(parts_->done.get(), parts_->stream.get());
  cuda::wait(context_of(parts_->device).stream, parts_->done.get());
}

}  // namespace tunas::engine

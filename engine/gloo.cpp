#include "engine/gloo.h"

#include <gloo/allgather.h>
#include <gloo/broadcast.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/heartbeat.h"
#include "engine/rendezvous.h"
#include "kernels/error.h"

namespace tunas::engine {
namespace {

namespace tcp = ::gloo::transport::tcp;
using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;
using Buffer = ::gloo::transport::UnboundBuffer;

/// A peer that lives may be as slow as it likes; one that is lost is the heartbeat's business.
constexpr Milliseconds kPatience = std::chrono::hours(24 * 30);
/// For the last message, after which there is nothing to wait for.
constexpr Milliseconds kLeaving = std::chrono::seconds(10);
/// Slots of sums; Gloo's own collectives count in other high bytes.
constexpr std::uint64_t kSumSlots = std::uint64_t{0x70} << 56;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Where this machine is reached by its peers.
tcp::attr local_address() {
  tcp::attr wanted;
  if (const char* interface = std::getenv("GLOO_SOCKET_IFNAME")) {
    wanted.iface = interface;
    return tcp::CreateDeviceAttr(wanted);
  }
  try {
    return tcp::CreateDeviceAttr(wanted);
  } catch (const std::exception&) {
    wanted.hostname = "localhost";  // a host name without an address: one machine, alone
    return tcp::CreateDeviceAttr(wanted);
  }
}

}  // namespace

struct Gloo::Parts final : Link {
  explicit Parts(const GlooSetting& s) : setting(s) {}

  void connect();
  void start_heartbeat(::gloo::rendezvous::Store& store, const std::string& token,
                       const tcp::attr& at);
  int rank() const override { return setting.rank; }
  int size() const override { return setting.size; }
  void exchange(const Exchange& exchange) override;
  void add(float* a, std::span<const float> b) override;
  void gather(const void* mine, void* all, std::size_t bytes, Milliseconds patience);
  void sum_all();
  void stop();
  template <class F>
  void guarded(const F& f);

  GlooSetting setting;
  std::shared_ptr<::gloo::rendezvous::Context> context;
  std::unique_ptr<Heartbeat> heartbeat;
  std::uint32_t messages = 0;
  SumSeconds seconds;

  // The sums' thread takes from the front; a sum stays in the queue until it is done.
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::span<float>> sums;
  Buffer *sending = nullptr, *receiving = nullptr;
  std::exception_ptr failure;
  bool stopping = false;
  std::uint64_t slot = kSumSlots;
  std::vector<float> scratch;
  std::thread thread;
};

/// Runs what talks to peers on the caller's thread. A failure is mostly a lost peer: then the
/// heartbeat ends the process with a better sentence than the transport's.
template <class F>
void Gloo::Parts::guarded(const F& f) {
  try {
    f();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    if (heartbeat) heartbeat->await_verdict();
    fail(Exit::communication, "rank ", setting.rank, " of ", setting.size,
         " cannot talk to the others: ", error.what());
  }
}

void Gloo::Parts::start_heartbeat(::gloo::rendezvous::Store& store, const std::string& token,
                                  const tcp::attr& at) {
  Heartbeat::Address address{at.ai_addr, static_cast<socklen_t>(at.ai_addrlen)};
  auto beat =
      std::make_unique<Heartbeat>(Heartbeat::Setting{setting.rank, setting.size, setting.timeout,
                                                     setting.folder + "/" + token, token},
                                  address);
  const std::string key = "heartbeat";
  if (setting.rank == 0) {
    address = beat->address();
    const char* bytes = reinterpret_cast<const char*>(&address);
    store.set(key, std::vector<char>(bytes, bytes + sizeof address));
  } else {
    const std::vector<char> bytes = store.get(key);
    if (bytes.size() != sizeof address) {
      fail(Exit::communication, setting.folder, ": rank 0 runs another build of tunas");
    }
    std::memcpy(&address, bytes.data(), sizeof address);
  }
  beat->start(address);
  heartbeat = std::move(beat);
}

void Gloo::Parts::connect() {
  // Gloo writes to its connections with writev: to one whose peer was killed, that is a signal.
  std::signal(SIGPIPE, SIG_IGN);
  const std::string token = meet({setting.folder, setting.rank, setting.size, setting.timeout});
  guarded([&] {
    ::gloo::rendezvous::FileStore store(setting.folder + "/" + token);
    const tcp::attr at = local_address();
    start_heartbeat(store, token, at);
    std::shared_ptr<::gloo::transport::Device> device = std::make_shared<tcp::Device>(at);
    context = std::make_shared<::gloo::rendezvous::Context>(setting.rank, setting.size);
    context->setTimeout(
        std::chrono::duration_cast<Milliseconds>(std::chrono::duration<double>(setting.timeout)));
    context->connectFullMesh(store, device);
  });
  thread = std::thread([this] { sum_all(); });
}

void Gloo::Parts::exchange(const Exchange& exchange) {
  const std::uint64_t here = ++slot;  // the same on all ranks, which make the same exchanges
  auto* send = const_cast<float*>(exchange.send.data());
  const auto out = context->createUnboundBuffer(send, exchange.send.size_bytes());
  const auto in =
      context->createUnboundBuffer(exchange.receive.data(), exchange.receive.size_bytes());
  {
    const std::lock_guard lock(mutex);
    if (stopping) throw std::runtime_error("the run ends");
    sending = out.get();
    receiving = in.get();
  }
  bool whole = true;
  if (!exchange.receive.empty()) in->recv(exchange.from, here);
  if (!exchange.send.empty()) out->send(exchange.to, here);
  try {
    if (!exchange.receive.empty()) whole = in->waitRecv(kPatience);
    if (!exchange.send.empty()) whole = out->waitSend(kPatience) && whole;
  } catch (...) {
    const std::lock_guard lock(mutex);
    sending = receiving = nullptr;
    throw;
  }
  const std::lock_guard lock(mutex);
  sending = receiving = nullptr;
  if (!whole) throw std::runtime_error("the run ends");
}

// Not kernels::add: the device's threads serve one caller at a time, who computes meanwhile.
void Gloo::Parts::add(float* a, std::span<const float> b) {
  const float* from = b.data();
  for (std::size_t i = 0; i < b.size(); ++i) a[i] += from[i];
}

void Gloo::Parts::sum_all() {
  std::unique_lock lock(mutex);
  while (true) {
    changed.wait(lock, [&] { return stopping || (!sums.empty() && !failure); });
    if (stopping) return;
    const std::span<float> data = sums.front();
    lock.unlock();
    const auto begin = Clock::now();
    std::exception_ptr error;
    try {
      if (scratch.size() < sum_scratch(data.size())) scratch.resize(sum_scratch(data.size()));
      sum(setting.sums, *this, data, scratch.data());
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    seconds.busy += since(begin);
    failure = error;
    sums.pop_front();
    changed.notify_all();
  }
}

void Gloo::Parts::gather(const void* mine, void* all, std::size_t bytes, Milliseconds patience) {
  if (bytes == 0) return;
  ::gloo::AllgatherOptions options(context);
  options.setInput(static_cast<char*>(const_cast<void*>(mine)), bytes);
  options.setOutput(static_cast<char*>(all), bytes * static_cast<std::size_t>(setting.size));
  options.setTag(++messages);
  options.setTimeout(patience);
  ::gloo::allgather(options);
}

void Gloo::Parts::stop() {
  if (!thread.joinable()) return;
  {
    const std::lock_guard lock(mutex);
    stopping = true;
    if (sending != nullptr) sending->abortWaitSend();
    if (receiving != nullptr) receiving->abortWaitRecv();
  }
  changed.notify_all();
  thread.join();
}

Gloo::Gloo(const GlooSetting& setting) : parts_(std::make_unique<Parts>(setting)) {
  check_ranks(setting.sums, setting.size);
  parts_->connect();
}

Gloo::~Gloo() {
  parts_->stop();
  if (std::uncaught_exceptions() > 0) return;
  // Nobody closes a connection on which a peer may still wait for the last message.
  try {
    const char mine = 0;
    std::vector<char> all(static_cast<std::size_t>(size()));
    parts_->gather(&mine, all.data(), 1, kLeaving);
  } catch (const std::exception&) {
    // A peer that is gone is no loss to one that has finished.
  }
}

int Gloo::rank() const { return parts_->setting.rank; }
int Gloo::size() const { return parts_->setting.size; }
void Gloo::await_verdict() const { parts_->heartbeat->await_verdict(); }
bool Gloo::built_in() { return true; }

void Gloo::all_gather(const void* mine, void* all, std::size_t bytes) {
  parts_->guarded([&] { parts_->gather(mine, all, bytes, kPatience); });
}

void Gloo::broadcast(void* data, std::size_t bytes, int from) {
  if (bytes == 0) return;
  parts_->guarded([&] {
    ::gloo::BroadcastOptions options(parts_->context);
    options.setOutput(static_cast<char*>(data), bytes);
    options.setRoot(from);
    options.setTag(++parts_->messages);
    options.setTimeout(kPatience);
    ::gloo::broadcast(options);
  });
}

void Gloo::start_sum(float* data, std::size_t count) {
  {
    const std::lock_guard lock(parts_->mutex);
    parts_->sums.emplace_back(data, count);
  }
  parts_->changed.notify_all();
}

void Gloo::finish_sums() {
  const auto begin = Clock::now();
  Parts& parts = *parts_;
  parts.guarded([&] {
    std::unique_lock lock(parts.mutex);
    parts.changed.wait(lock, [&] { return parts.sums.empty() || parts.failure; });
    if (parts.failure) {
      const std::exception_ptr failure = parts.failure;
      lock.unlock();
      std::rethrow_exception(failure);
    }
  });
  const std::lock_guard lock(parts.mutex);
  parts.seconds.waited += since(begin);
}

std::optional<SumSeconds> Gloo::sum_seconds() const {
  const std::lock_guard lock(parts_->mutex);
  return parts_->seconds;
}

}  // namespace tunas::engine

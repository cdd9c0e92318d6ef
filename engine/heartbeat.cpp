#include "engine/heartbeat.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "engine/rendezvous.h"
#include "kernels/error.h"

namespace tunas::engine {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr char kBeat = '.', kFarewell = 'F';
/// Of the time-out: rank 0 must find a silent rank before the others find rank 0 silent.
constexpr double kRankZeroWaits = 2.0 / 3;
/// For the verdict to be seen on another machine, and for a farewell to be read.
constexpr double kVerdictDelay = 3, kFarewellDelay = 2;
/// Between the ends of ranks that all come to the same error.
constexpr int kSameError = 1000;  // ms

double seconds_since(Clock::time_point then) { return Seconds(Clock::now() - then).count(); }

/// Who speaks, first bytes on each connection: others may know the port, but not the word.
struct Hello {
  char word[16] = {};
  int rank = -1;
};

class Socket {
 public:
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~Socket() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

Socket open_socket(int family) {
  Socket socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (socket.get() < 0) fail(Exit::communication, "no socket: ", std::strerror(errno));
  return socket;
}

void limit_waiting(const Socket& socket, double seconds) {
  const auto whole = static_cast<time_t>(seconds);
  const timeval limit = {whole, static_cast<suseconds_t>(1e6 * (seconds - double(whole)))};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

/// Says the sentence and ends the process: the main thread may wait for a peer that is gone.
[[noreturn]] void end_process(const std::string& sentence) {
  const std::string line = "error: " + sentence + "\n";
  (void)!::write(STDERR_FILENO, line.data(), line.size());  // no buffer that someone may hold
  std::_Exit(static_cast<int>(Exit::communication));
}

}  // namespace

struct Heartbeat::Peers {
  /// How this rank leaves: not yet, with a farewell, or silently, which the others call a loss.
  enum class Ending : unsigned char { none, farewell, silent };
  struct Peer {
    int rank;
    Socket socket;
    Clock::time_point heard = Clock::now();
    bool finished = false;
  };

  explicit Peers(const Setting& s)
      : setting(s),
        patience(s.rank == 0 ? s.timeout * kRankZeroWaits : s.timeout),
        interval(std::min(1.0, s.timeout / 8)),
        wake(::eventfd(0, EFD_CLOEXEC)) {}

  void listen_at(const Address& at);
  void accept_all();
  void connect(const Address& rank0);
  void watch();
  void hear(Peer& peer);
  void beat();
  void farewell();
  bool alone() const;
  [[noreturn]] void lose(int rank, const std::string& how);

  Setting setting;
  double patience, interval;
  Socket wake, listener{-1};
  Address address;
  std::vector<Peer> peers;
  std::atomic<Ending> ending{Ending::none};
  std::thread thread;
};

void Heartbeat::Peers::listen_at(const Address& at) {
  address = at;
  auto* socket = reinterpret_cast<sockaddr*>(&address.socket);
  if (socket->sa_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(socket)->sin6_port = 0;
  } else {
    reinterpret_cast<sockaddr_in*>(socket)->sin_port = 0;
  }
  listener = open_socket(socket->sa_family);
  if (::bind(listener.get(), socket, address.bytes) != 0 ||
      ::listen(listener.get(), setting.size) != 0 ||
      ::getsockname(listener.get(), socket, &address.bytes) != 0) {
    fail(Exit::communication, "rank 0 cannot listen for heartbeats: ", std::strerror(errno));
  }
}

void Heartbeat::Peers::accept_all() {
  const Clock::time_point begin = Clock::now();
  while (static_cast<int>(peers.size()) + 1 < setting.size) {
    pollfd ready = {listener.get(), POLLIN, 0};
    if (::poll(&ready, 1, 100) > 0) {
      Socket socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      limit_waiting(socket, 5);  // a stranger that says nothing
      Hello hello;
      const bool whole = ::recv(socket.get(), &hello, sizeof hello, MSG_WAITALL) == sizeof hello;
      if (whole && setting.word.compare(0, std::string::npos, hello.word, sizeof hello.word) == 0) {
        peers.push_back({hello.rank, std::move(socket)});
      }
    }
    if (seconds_since(begin) > setting.timeout) {
      const std::string sentence = "only " + std::to_string(peers.size()) + " of " +
                                   std::to_string(setting.size - 1) +
                                   " ranks connected to rank 0 in time; wait longer with "
                                   "--peer-timeout";
      write_verdict(setting.folder, sentence);
      fail(Exit::communication, sentence);
    }
  }
}

void Heartbeat::Peers::connect(const Address& rank0) {
  const auto* socket = reinterpret_cast<const sockaddr*>(&rank0.socket);
  Peer peer{0, open_socket(socket->sa_family)};
  limit_waiting(peer.socket, patience);
  Hello hello;
  setting.word.copy(hello.word, sizeof hello.word);
  hello.rank = setting.rank;
  if (::connect(peer.socket.get(), socket, rank0.bytes) != 0 ||
      ::send(peer.socket.get(), &hello, sizeof hello, MSG_NOSIGNAL) != sizeof hello) {
    fail(Exit::communication, "rank ", setting.rank, " cannot reach rank 0 (", std::strerror(errno),
         "); GLOO_SOCKET_IFNAME names the network interface to use");
  }
  peers.push_back(std::move(peer));
}

void Heartbeat::Peers::watch() {
  Clock::time_point beaten{};
  while (true) {
    if (ending != Ending::none) return ending == Ending::farewell ? farewell() : void();
    if (seconds_since(beaten) >= interval) {
      beat();
      beaten = Clock::now();
    }
    std::vector<pollfd> ready = {{wake.get(), POLLIN, 0}};
    for (const Peer& peer : peers) {
      ready.push_back({peer.finished ? -1 : peer.socket.get(), POLLIN, 0});
    }
    ::poll(ready.data(), ready.size(), static_cast<int>(1000 * interval) + 1);
    for (std::size_t i = 0; i < peers.size(); ++i) {
      if (ready[i + 1].revents != 0) hear(peers[i]);
    }
    // After what has come was read: a rank that was itself stopped for long blames nobody.
    for (const Peer& peer : peers) {
      if (peer.finished || seconds_since(peer.heard) <= patience) continue;
      const std::string span = " for " + std::to_string(std::lround(patience)) + " s (";
      if (alone()) lose(0, "it has heard of no other rank" + span + "cut off from the network)");
      lose(peer.rank, "silent" + span + "stopped, or cut off from the network)");
    }
  }
}

void Heartbeat::Peers::hear(Peer& peer) {
  char said[256];
  const ssize_t bytes = ::recv(peer.socket.get(), said, sizeof said, MSG_DONTWAIT);
  if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (bytes <= 0) {
    // An error that all come to: this rank says it, too, and ends with its code.
    if (pollfd leaving = {wake.get(), POLLIN, 0}; ::poll(&leaving, 1, kSameError) > 0) return;
    lose(peer.rank, "its process ended (killed, or by an error of its own)");
  }
  peer.heard = Clock::now();
  if (said[bytes - 1] == kFarewell) {
    peer.finished = true;
    peer.socket = Socket(-1);
  }
}

void Heartbeat::Peers::beat() {
  for (const Peer& peer : peers) {
    // A broken connection is heard of when it is read: a farewell may still lie there.
    if (!peer.finished) {
      (void)!::send(peer.socket.get(), &kBeat, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
  }
}

void Heartbeat::Peers::farewell() {
  for (const Peer& peer : peers) {
    if (peer.finished) continue;
    (void)!::send(peer.socket.get(), &kFarewell, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    ::shutdown(peer.socket.get(), SHUT_WR);
  }
  // Closed with beats unread, a connection would be reset, and the farewell lost with it.
  const Clock::time_point begin = Clock::now();
  for (const Peer& peer : peers) {
    const double left = kFarewellDelay - seconds_since(begin);
    if (peer.finished || left <= 0) continue;
    limit_waiting(peer.socket, left);
    char said[256];
    while (::recv(peer.socket.get(), said, sizeof said, 0) > 0) {
    }
  }
}

/// Whether several peers have become silent at once, a beat or two apart.
bool Heartbeat::Peers::alone() const {
  int silent = 0;
  for (const Peer& peer : peers) {
    if (peer.finished) continue;
    if (seconds_since(peer.heard) < patience - 2 * interval) return false;
    ++silent;
  }
  return silent > 1;
}

void Heartbeat::Peers::lose(int rank, const std::string& how) {
  const std::string sentence = "rank " + std::to_string(rank) + " of " +
                               std::to_string(setting.size) + " is lost: " + how +
                               "; look at its messages, then start the run again";
  if (setting.rank == 0) {
    write_verdict(setting.folder, sentence);
    end_process(sentence);
  }
  const Clock::time_point begin = Clock::now();
  while (seconds_since(begin) < std::min(kVerdictDelay, setting.timeout)) {
    if (const auto verdict = read_verdict(setting.folder)) end_process(*verdict);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  end_process(sentence);
}

Heartbeat::Heartbeat(const Setting& setting, const Address& at)
    : peers_(std::make_unique<Peers>(setting)) {
  if (setting.rank == 0) peers_->listen_at(at);
}

const Heartbeat::Address& Heartbeat::address() const { return peers_->address; }

void Heartbeat::start(const Address& rank0) {
  peers_->setting.rank == 0 ? peers_->accept_all() : peers_->connect(rank0);
  for (Peers::Peer& peer : peers_->peers) peer.heard = Clock::now();
  peers_->thread = std::thread([this] { peers_->watch(); });
}

Heartbeat::~Heartbeat() {
  if (!peers_->thread.joinable()) return;
  const bool error = std::uncaught_exceptions() > 0;
  if (error && peers_->setting.rank == 0) {
    write_verdict(peers_->setting.folder, "rank 0 of " + std::to_string(peers_->setting.size) +
                                              " ended by an error of its own; look at its "
                                              "messages, then start the run again");
  }
  peers_->ending = error ? Peers::Ending::silent : Peers::Ending::farewell;
  const std::uint64_t one = 1;
  (void)!::write(peers_->wake.get(), &one, sizeof one);
  peers_->thread.join();
}

void Heartbeat::await_verdict() const {
  std::this_thread::sleep_for(Seconds(peers_->setting.timeout + kVerdictDelay));
}

}  // namespace tunas::engine

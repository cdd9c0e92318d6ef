// Heartbeat: that the other ranks live, told on a thread and connections of its own, so that a long
// step or a slow loader is no loss. Each rank beats with rank 0 and rank 0 with each.
//
// Rank 0 alone decides who is lost: a rank whose connection closes without a farewell (it was
// killed, or ended by an error), a second later, since this rank may come to the same error and say
// so itself; after two thirds of `timeout` one that is silent (stopped, or cut off), and itself
// where several are silent at once. It leaves the sentence in the folder of the run's rendezvous
// before it ends, and the others, who wait for the whole time-out, find it there when their
// connection to rank 0 breaks. So every rank says the same sentence and ends with
// Exit::communication; nothing is saved or unwound, since the main thread may wait for a peer that
// is gone.
#pragma once

#include <sys/socket.h>

#include <memory>
#include <string>

namespace tunas::engine {

class Heartbeat {
 public:
  /// Where a peer connects to: a socket address, the same bytes on every rank.
  struct Address {
    sockaddr_storage socket = {};
    socklen_t bytes = 0;
  };
  struct Setting {
    int rank = 0;
    int size = 1;
    double timeout = 120;  // seconds
    std::string folder;    // that of the rendezvous' token
    std::string word;      // known to the ranks of this run alone
  };

  /// Rank 0 listens at the machine's address `at`; the port is the system's choice.
  Heartbeat(const Setting& setting, const Address& at);
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;
  /// Says farewell, unless an error is on its way: the others then learn of it as of a loss.
  ~Heartbeat();

  /// Where rank 0 listens.
  const Address& address() const;
  /// From now on peers are watched; returns when rank 0 is connected with each.
  /// Error(Exit::communication) where it is not in time.
  void start(const Address& rank0);

  /// For who was told by the transport that a peer is gone: waits until the process ends with the
  /// verdict, and returns only where none comes.
  void await_verdict() const;

 private:
  struct Peers;
  std::unique_ptr<Peers> peers_;
};

}  // namespace tunas::engine

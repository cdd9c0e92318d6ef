// Graphs: passes whose launches never change are recorded once and replayed, so that the host
// spends microseconds on them instead of a launch a kernel. A key says what a recording depends on
// beside the shapes: the addresses that change from pass to pass.
#pragma once

#include <array>
#include <cstdint>
#include <map>

#include "engine/device.h"
#include "kernels/runtime.h"

namespace tunas::engine {

class Graphs {
 public:
  using Key = std::array<std::uintptr_t, 4>;

  explicit Graphs(const Device& device);

  /// Puts work() on the device's stream: by calling it the first time with this key (it may then
  /// allocate and choose), recording it the second time, replaying it from then on. On the CPU, and
  /// where each kernel is waited for, by calling it every time.
  template <class Work>
  void run(const Key& key, const Work& work) {
    Graph* graph = stream_ ? &find(key) : nullptr;
    if (!graph || graph->runs++ == 0) return work();
    if (!graph->recorded) {
      begin();
      work();
      graph->recorded = end();
    }
    replay(*graph);
  }

 private:
  struct Graph {
    int runs = 0;
    kernels::cuda::OwnedGraph recorded;
  };
  Graph& find(const Key& key);
  void begin() const;
  kernels::cuda::OwnedGraph end() const;
  void replay(const Graph& graph) const;

  /// Keys come from a ring of inputs times a few buffers; more mean that buffers were replaced.
  static constexpr std::size_t kMost = 64;
  CUstream_st* stream_ = nullptr;  // null: nothing is recorded
  std::map<Key, Graph> graphs_;
};

}  // namespace tunas::engine

#include "engine/graphs.h"

#include "kernels/cuda_context.h"

namespace tunas::engine {

namespace cuda = kernels::cuda;

Graphs::Graphs(const Device& device) {
  if (device.kind() != Kind::cuda) return;
  const auto& context = *static_cast<CudaContext*>(device.stream().handle);
  if (!context.synchronise) stream_ = context.stream;
}

Graphs::Graph& Graphs::find(const Key& key) {
  if (graphs_.size() >= kMost && !graphs_.contains(key)) {
    cuda::wait(stream_);  // one of them may be running
    graphs_.clear();
  }
  return graphs_[key];
}

void Graphs::begin() const { cuda::begin_capture(stream_); }
cuda::OwnedGraph Graphs::end() const { return cuda::end_capture(stream_); }
void Graphs::replay(const Graph& graph) const { cuda::replay(graph.recorded.get(), stream_); }

}  // namespace tunas::engine

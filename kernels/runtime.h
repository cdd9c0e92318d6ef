// The CUDA runtime as the owner of memory, streams and graphs sees it: without CUDA's headers, so
// that engine/ needs none. Defined in builds with CUDA only; call under kBuiltWithCuda.
//
// All functions throw Error(memory) when the GPU is out of memory and Error(numeric) on any other
// failure, also of work enqueued before; the releasing ones never throw.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

struct CUstream_st;
struct CUevent_st;
struct CUgraphExec_st;

namespace tunas::kernels::cuda {

struct Gpu {
  std::string name;
  int major = 0, minor = 0, multiprocessors = 0;
  std::size_t bytes = 0, free_bytes = 0;
};

/// GPUs that can be used. 0 where there is no driver; `why` then says so.
int count_gpus(std::string& why);
Gpu describe_gpu(int index);
/// Makes it the GPU of the calling thread.
void use_gpu(int index);

struct Release {
  void operator()(CUstream_st* stream) const;
  void operator()(CUevent_st* event) const;
  void operator()(CUgraphExec_st* graph) const;
};
using OwnedStream = std::unique_ptr<CUstream_st, Release>;
using OwnedEvent = std::unique_ptr<CUevent_st, Release>;
using OwnedGraph = std::unique_ptr<CUgraphExec_st, Release>;

/// Runs beside the default stream. What is put on it runs in order.
OwnedStream make_stream();
/// Marks a place in a stream; keeps no time.
OwnedEvent make_event();

/// Device memory, zeroed once `stream` has come so far.
void* allocate(std::size_t bytes, CUstream_st* stream);
void release(void* data);
/// Host memory that the GPU reads and writes by itself.
void* allocate_pinned(std::size_t bytes);
void release_pinned(void* data);

/// Between any two kinds of memory. From memory that is not pinned: returns once it is read.
void copy(CUstream_st* stream, void* to, const void* from, std::size_t bytes);
void zero(CUstream_st* stream, void* to, std::size_t bytes);

void record(CUevent_st* event, CUstream_st* stream);
/// What `stream` is given from now on waits for the event; for an event never recorded nobody does.
void wait(CUstream_st* stream, CUevent_st* event);
/// The host waits.
void wait(CUevent_st* event);
void wait(CUstream_st* stream);

/// What is put on `stream` until end_capture becomes a graph instead of running.
void begin_capture(CUstream_st* stream);
OwnedGraph end_capture(CUstream_st* stream);
void replay(CUgraphExec_st* graph, CUstream_st* stream);

}  // namespace tunas::kernels::cuda

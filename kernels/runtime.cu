#include "kernels/runtime.h"

#include "kernels/vendor/cuda.h"

namespace tunas::kernels::cuda {

int count_gpus(std::string& why) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    why = cudaGetErrorString(status);
    cudaGetLastError();  // no error of what comes later
    return 0;
  }
  if (count == 0) why = "no NVIDIA GPU";
  return count;
}

Gpu describe_gpu(int index) {
  use_gpu(index);
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, index), "properties of the GPU");
  Gpu gpu{properties.name, properties.major, properties.minor, properties.multiProcessorCount};
  check(cudaMemGetInfo(&gpu.free_bytes, &gpu.bytes), "memory of the GPU");
  return gpu;
}

void use_gpu(int index) { check(cudaSetDevice(index), "choosing the GPU"); }

void Release::operator()(CUstream_st* stream) const { cudaStreamDestroy(stream); }
void Release::operator()(CUevent_st* event) const { cudaEventDestroy(event); }
void Release::operator()(CUgraphExec_st* graph) const { cudaGraphExecDestroy(graph); }

OwnedStream make_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  return OwnedStream(stream);
}

OwnedEvent make_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  return OwnedEvent(event);
}

void* allocate(std::size_t bytes, CUstream_st* stream) {
  void* data = nullptr;
  check(cudaMalloc(&data, bytes), "device memory");
  zero(stream, data, bytes);
  return data;
}

void release(void* data) { cudaFree(data); }

void* allocate_pinned(std::size_t bytes) {
  void* data = nullptr;
  check(cudaHostAlloc(&data, bytes, cudaHostAllocDefault), "pinned memory");
  return data;
}

void release_pinned(void* data) { cudaFreeHost(data); }

void copy(CUstream_st* stream, void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream), "copy");
}

void zero(CUstream_st* stream, void* to, std::size_t bytes) {
  if (bytes == 0) return;
  check(cudaMemsetAsync(to, 0, bytes, stream), "zero");
}

void record(CUevent_st* event, CUstream_st* stream) {
  check(cudaEventRecord(event, stream), "recording an event");
}

void wait(CUstream_st* stream, CUevent_st* event) {
  check(cudaStreamWaitEvent(stream, event, 0), "waiting for an event");
}

void wait(CUevent_st* event) { check(cudaEventSynchronize(event), "the GPU's work so far"); }
void wait(CUstream_st* stream) { check(cudaStreamSynchronize(stream), "the GPU's work so far"); }

void begin_capture(CUstream_st* stream) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing a graph");
}

OwnedGraph end_capture(CUstream_st* stream) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream, &graph), "capturing a graph");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "making a graph");
  return OwnedGraph(executable);
}

void replay(CUgraphExec_st* graph, CUstream_st* stream) {
  check(cudaGraphLaunch(graph, stream), "running a graph");
}

}  // namespace tunas::kernels::cuda

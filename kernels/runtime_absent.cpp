// runtime.h in a build without CUDA: there is no GPU, so nothing else is ever called.
#ifndef TUNAS_CUDA
#include "kernels/error.h"
#include "kernels/runtime.h"

namespace tunas::kernels::cuda {
namespace {

constexpr const char* kAbsent = "this tunas was built without CUDA";

[[noreturn]] void absent() { fail(Exit::usage, kAbsent, "; use --device cpu"); }

}  // namespace

int count_gpus(std::string& why) {
  why = kAbsent;
  return 0;
}
Gpu describe_gpu(int) { absent(); }
void use_gpu(int) { absent(); }

void Release::operator()(CUstream_st*) const {}
void Release::operator()(CUevent_st*) const {}
void Release::operator()(CUgraphExec_st*) const {}
OwnedStream make_stream() { absent(); }
OwnedEvent make_event() { absent(); }

void* allocate(std::size_t, CUstream_st*) { absent(); }
void release(void*) {}
void* allocate_pinned(std::size_t) { absent(); }
void release_pinned(void*) {}
void copy(CUstream_st*, void*, const void*, std::size_t) { absent(); }
void zero(CUstream_st*, void*, std::size_t) { absent(); }

void record(CUevent_st*, CUstream_st*) { absent(); }
void wait(CUstream_st*, CUevent_st*) { absent(); }
void wait(CUevent_st*) { absent(); }
void wait(CUstream_st*) { absent(); }

void begin_capture(CUstream_st*) { absent(); }
OwnedGraph end_capture(CUstream_st*) { absent(); }
void replay(CUgraphExec_st*, CUstream_st*) { absent(); }

}  // namespace tunas::kernels::cuda
#endif

// on<cpu::f, cuda::f>(stream, args): the only branch on the device. Dry streams add cost(args); an
// observed stream says which kernel is called, and at what cost.
#pragma once

#include "kernels/error.h"
#include "kernels/observer.h"
#include "kernels/stream.h"

namespace tunas {

#ifdef TUNAS_CUDA
inline constexpr bool kBuiltWithCuda = true;
#else
inline constexpr bool kBuiltWithCuda = false;
#endif

struct CudaContext;

template <auto Cpu, auto Cuda, class Args>
void run(const Stream& stream, const Args& args) {
  switch (stream.kind) {
    case Kind::cpu:
      Cpu(*static_cast<CpuContext*>(stream.handle), args);
      return;
    case Kind::cuda:
      if constexpr (kBuiltWithCuda) {
        Cuda(*static_cast<CudaContext*>(stream.handle), args);
      } else {
        fail(Exit::usage, "this tunas was built without CUDA; use --device cpu");
      }
      return;
    case Kind::dry:
      auto& tally = *static_cast<Tally*>(stream.handle);
      tally.cost += cost(args);
      ++tally.calls;
      return;
  }
}

template <auto Cpu, auto Cuda, class Args>
void on(const Stream& stream, const Args& args) {
  Observer* observer = stream.observer;
  if (observer != nullptr) observer->begin(observer->self, kernel_name<Cpu>(), cost(args));
  run<Cpu, Cuda>(stream, args);
  if (observer != nullptr) observer->end(observer->self);
}

}  // namespace tunas

// The library twins of kernels on the GPU (--kernels library): X_cublas.cpp and X_cudnn.cpp behind
// the entries of X.h. Each returns false, having touched nothing, where it is not wanted or the
// library has no plan for the shape; the own kernel then runs.
//
// A library multiplies plain tensors. So a twin writes out what the own kernel makes on load (u of
// a Source, dy of an Incoming: passes.h), chunk by chunk of whole images, into the workspace, calls
// the library, and finishes in one more pass over the result. Bytes beside the own kernel's floor:
// forward 2 passes over u and 1 over y; backward 2 over dy, u and du each.
#pragma once

#include <string>

#include "kernels/cuda_context.h"

namespace tunas::kernels {

struct PointwiseForward;
struct PointwiseBackward;
struct ConvForward;
struct ConvBackward;
struct DepthwiseForward;
struct DepthwiseBackward;

namespace cuda::library {

#ifdef TUNAS_CUDA_LIBRARIES
bool pointwise(const CudaContext& context, const PointwiseForward& args);
bool pointwise_dgrad(const CudaContext& context, const PointwiseBackward& args);
bool pointwise_wgrad(const CudaContext& context, const PointwiseBackward& args);
bool conv(const CudaContext& context, const ConvForward& args);
bool conv_backward(const CudaContext& context, const ConvBackward& args);
bool depthwise(const CudaContext& context, const DepthwiseForward& args);
bool depthwise_backward(const CudaContext& context, const DepthwiseBackward& args);

/// Keeps LibraryUse up to date; returns `ran`.
bool count(const CudaContext& context, bool ran, const char* kernel, const std::string& why);

inline bool wanted(const CudaContext& context) {
  return context.kernels == Kernels::library && context.libraries;
}
#else
inline bool wanted(const CudaContext&) { return false; }
inline bool pointwise(const CudaContext&, const PointwiseForward&) { return false; }
inline bool pointwise_dgrad(const CudaContext&, const PointwiseBackward&) { return false; }
inline bool pointwise_wgrad(const CudaContext&, const PointwiseBackward&) { return false; }
inline bool conv(const CudaContext&, const ConvForward&) { return false; }
inline bool conv_backward(const CudaContext&, const ConvBackward&) { return false; }
inline bool depthwise(const CudaContext&, const DepthwiseForward&) { return false; }
inline bool depthwise_backward(const CudaContext&, const DepthwiseBackward&) { return false; }
#endif

}  // namespace cuda::library
}  // namespace tunas::kernels

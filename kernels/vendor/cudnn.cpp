// Order of building (each descriptor is finalized before the next one names it): tensors and
// convolution -> operation -> operation graph -> heuristics -> engine configurations -> plan.
#include "kernels/vendor/cudnn.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <sstream>
#include <utility>
#include <vector>

namespace tunas::kernels {
namespace {

/// A step of building a plan that the library refuses: no error, the shape has no plan.
struct Refused {
  const char* step;
  cudnnStatus_t status;
};

void step(cudnnStatus_t status, const char* what) {
  if (status != CUDNN_STATUS_SUCCESS) throw Refused{what, status};
}

class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type) {
    step(cudnnBackendCreateDescriptor(type, &descriptor_), "create descriptor");
  }
  Descriptor(Descriptor&& o) noexcept : descriptor_(std::exchange(o.descriptor_, nullptr)) {}
  Descriptor& operator=(Descriptor&& o) noexcept {
    std::swap(descriptor_, o.descriptor_);
    return *this;
  }
  ~Descriptor() {
    if (descriptor_) cudnnBackendDestroyDescriptor(descriptor_);
  }

  cudnnBackendDescriptor_t get() const { return descriptor_; }

  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
           const void* elements, const char* what) const {
    step(cudnnBackendSetAttribute(descriptor_, name, type, count, elements), what);
  }
  void set(cudnnBackendAttributeName_t name, std::int64_t value, const char* what) const {
    set(name, CUDNN_TYPE_INT64, 1, &value, what);
  }
  void set(cudnnBackendAttributeName_t name, const Descriptor& value, const char* what) const {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.descriptor_, what);
  }
  void finalize(const char* what) const { step(cudnnBackendFinalize(descriptor_), what); }

 private:
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

using Four = std::array<std::int64_t, 4>;
using Two = std::array<std::int64_t, 2>;

constexpr std::int64_t kX = 1, kW = 2, kY = 3;  // unique ids

/// `dims` and `strides` in the order n, c, h, w (filters: out, c/groups, k, k) whatever the layout.
Descriptor tensor(std::int64_t id, DType type, const Four& dims, const Four& strides,
                  std::int64_t alignment) {
  Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  const cudnnDataType_t data = type == DType::bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
  d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &data, "tensor type");
  d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims.data(), "tensor dimensions");
  d.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides.data(), "tensor strides");
  d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id, "tensor id");
  d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, alignment, "tensor alignment");
  d.finalize("tensor");
  return d;
}

/// Zero pixels after the last one, so that `out` outputs come of `in` pixels. As many as before
/// where that gives the same outputs: more engines take it.
std::int64_t padding_after(long in, long before, long k, long stride, long out) {
  if (in + 2 * before >= k && (in + 2 * before - k) / stride + 1 == out) return before;
  return std::max(0L, (out - 1) * stride + k - before - in);
}

Descriptor convolution(const ConvShape& s) {
  Descriptor d(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  const Two before = {s.top, s.left}, dilation = {1, 1}, stride = {s.stride, s.stride};
  const Two after = {padding_after(s.h, s.top, s.k, s.stride, s.p),
                     padding_after(s.w, s.left, s.k, s.stride, s.q)};
  d.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute, "compute type");
  d.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode, "mode");
  d.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2, "spatial dimensions");
  d.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before.data(), "padding before");
  d.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after.data(), "padding after");
  d.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation.data(), "dilation");
  d.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride.data(), "stride");
  d.finalize("convolution");
  return d;
}

/// What the three operations call their parts.
struct Names {
  cudnnBackendDescriptorType_t type;
  cudnnBackendAttributeName_t x, w, y, convolution, alpha, beta;
};

Names names(Pass pass) {
  switch (pass) {
    case Pass::forward:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
    case Pass::dgrad:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    case Pass::wgrad:
      break;
  }
  return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
}

/// Engine configurations the heuristics propose, best first.
std::vector<Descriptor> propose(const Descriptor& graph, cudnnBackendHeurMode_t mode) {
  Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph, "heuristics graph");
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode, "heuristics mode");
  heuristics.finalize("heuristics");
  std::int64_t count = 0;
  step(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr),
       "number of engines");
  std::vector<Descriptor> configs;
  std::vector<cudnnBackendDescriptor_t> raw;  // the library fills descriptors that we create
  for (std::int64_t i = 0; i < count; ++i) {
    configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    raw.push_back(configs.back().get());
  }
  std::int64_t given = 0;
  if (count > 0) {
    step(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                  CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &given, raw.data()),
         "engines");
  }
  while (static_cast<std::int64_t>(configs.size()) > given) configs.pop_back();
  return configs;
}

/// False for engines whose bits vary from run to run or whose sums are shorter than float.
bool acceptable(const Descriptor& config, DType type) {
  const Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t raw = engine.get();
  std::int64_t count = 0;
  if (cudnnBackendGetAttribute(config.get(), CUDNN_ATTR_ENGINECFG_ENGINE,
                               CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count,
                               &raw) != CUDNN_STATUS_SUCCESS) {
    return false;
  }
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
  count = 0;
  if (cudnnBackendGetAttribute(raw, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                               CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count,
                               notes.data()) != CUDNN_STATUS_SUCCESS) {
    return false;
  }
  count = std::min<std::int64_t>(count, CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
  return std::none_of(notes.begin(), notes.begin() + count, [type](auto note) {
    if (note == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC ||
        note == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION) {
      return true;
    }
    return type == DType::f32 &&
           (note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE ||
            note == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS || note == CUDNN_NUMERICAL_NOTE_FFT ||
            note == CUDNN_NUMERICAL_NOTE_WINOGRAD);
  });
}

}  // namespace

class ConvPlan {
 public:
  ConvPlan(cudnnHandle_t handle, const ConvShape& s) {
    const std::int64_t c_each = s.c / s.groups;
    const Four x_strides = {s.image, 1, s.row, s.c};
    const Four w_strides = {s.k * s.k * c_each, 1, s.k * c_each, c_each};
    const Four y_strides = {s.p * s.q * s.out, 1, s.q * s.out, s.out};
    const auto type = [&](Pass writer) { return s.pass == writer ? s.result : s.type; };
    parts_.push_back(tensor(kX, type(Pass::dgrad), {s.n, s.c, s.h, s.w}, x_strides, s.alignment));
    parts_.push_back(tensor(kW, type(Pass::wgrad), {s.out, c_each, s.k, s.k}, w_strides, 16));
    parts_.push_back(tensor(kY, type(Pass::forward), {s.n, s.out, s.p, s.q}, y_strides, 16));
    parts_.push_back(convolution(s));

    const Names name = names(s.pass);
    Descriptor operation(name.type);
    operation.set(name.x, parts_[0], "operation x");
    operation.set(name.w, parts_[1], "operation w");
    operation.set(name.y, parts_[2], "operation y");
    operation.set(name.convolution, parts_[3], "operation convolution");
    const float alpha = 1, beta = 0;
    operation.set(name.alpha, CUDNN_TYPE_FLOAT, 1, &alpha, "operation alpha");
    operation.set(name.beta, CUDNN_TYPE_FLOAT, 1, &beta, "operation beta");
    operation.finalize("operation");

    Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation, "graph operations");
    graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle, "graph handle");
    graph.finalize("operation graph");
    cudnnStatus_t last = CUDNN_STATUS_NOT_SUPPORTED;
    for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
      if (choose(graph, mode, s.type, last)) break;
    }
    if (!plan_) throw Refused{"no engine", last};
    parts_.push_back(std::move(operation));
    parts_.push_back(std::move(graph));
  }

  cudnnBackendDescriptor_t get() const { return plan_->get(); }

 private:
  /// Takes the first proposal that becomes a plan within the workspace.
  bool choose(const Descriptor& graph, cudnnBackendHeurMode_t mode, DType type,
              cudnnStatus_t& last) {
    try {
      for (Descriptor& config : propose(graph, mode)) {
        if (!acceptable(config, type)) continue;
        Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config, "plan engine");
        last = cudnnBackendFinalize(plan.get());
        if (last != CUDNN_STATUS_SUCCESS) continue;
        std::int64_t count = 0, bytes = 0;
        step(cudnnBackendGetAttribute(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                      CUDNN_TYPE_INT64, 1, &count, &bytes),
             "plan workspace");
        last = CUDNN_STATUS_NOT_SUPPORTED;  // unless it fits
        if (bytes > static_cast<std::int64_t>(Cudnn::kWorkspaceBytes)) continue;
        parts_.push_back(std::move(config));
        plan_ = std::make_unique<Descriptor>(std::move(plan));
        return true;
      }
    } catch (const Refused& refused) {
      last = refused.status;  // this mode knows nothing; the next one may
    }
    return false;
  }

  std::vector<Descriptor> parts_;  // a plan refers to them
  std::unique_ptr<Descriptor> plan_;
};

Cudnn::Cudnn(CUstream_st* stream) {
  const cudnnStatus_t status = cudnnCreate(&handle_);
  require(status == CUDNN_STATUS_SUCCESS, "--kernels library: cuDNN does not start (",
          cudnnGetErrorString(status), "); it needs an NVIDIA GPU and its driver, ",
          "--kernels own does without cuDNN");
  try {
    check(cudnnSetStream(handle_, stream), "cudnnSetStream");
  } catch (...) {
    cudnnDestroy(handle_);
    throw;
  }
}

Cudnn::~Cudnn() {
  plans_.clear();
  cudnnDestroy(handle_);
}

const ConvPlan* Cudnn::plan(const ConvShape& s) {
  auto place = plans_.find(s);
  if (place == plans_.end()) {
    std::unique_ptr<ConvPlan> plan;
    try {
      plan = std::make_unique<ConvPlan>(handle_, s);
    } catch (const Refused& refused) {
      char details[256] = "";
      cudnnGetLastErrorString(details, sizeof(details));
      std::ostringstream why;
      why << "cuDNN has no plan for pass " << static_cast<int>(s.pass) << " type "
          << (s.type == DType::bf16 ? "bf16" : "f32") << "->"
          << (s.result == DType::bf16 ? "bf16" : "f32") << " x " << s.n << 'x' << s.h << 'x' << s.w
          << 'x' << s.c << " (row " << s.row << ") y " << s.p << 'x' << s.q << 'x' << s.out
          << " k=" << s.k << " stride=" << s.stride << " groups=" << s.groups << " before " << s.top
          << ',' << s.left << ": " << refused.step << ", " << cudnnGetErrorString(refused.status)
          << ' ' << details;
      refusal_ = why.str();
    }
    place = plans_.emplace(s, std::move(plan)).first;
  }
  return place->second.get();
}

void Cudnn::run(const CudaContext& context, const ConvPlan& plan, const ConvData& data,
                void* workspace) {
  try {
    const Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    const std::array<std::int64_t, 3> ids = {kX, kW, kY};
    const std::array<void*, 3> pointers = {data.x, data.w, data.y};
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, ids.data(), "pack ids");
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, pointers.data(),
             "pack pointers");
    pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace,
             "pack workspace");
    pack.finalize("pack");
    step(cudnnBackendExecute(handle_, plan.get(), pack.get()), "execute");
  } catch (const Refused& refused) {
    check(refused.status, refused.step);
  }
  if (!context.synchronise) return;
  const cudaError_t status = cudaStreamSynchronize(context.stream);
  if (status != cudaSuccess) fail(Exit::numeric, "cuDNN: ", cudaGetErrorString(status));
}

}  // namespace tunas::kernels

// save_foreign_weights of foreign_weights.h.
#include <algorithm>
#include <deque>

#include "engine/safetensors.h"
#include "kernels/error.h"
#include "search/foreign_weights.h"

namespace tunas::search {
namespace {

using engine::Param;
using engine::ParamStore;
using engine::Shape;
using engine::StoredTensor;
using Kind = NamedConv::Kind;
using Floats = std::vector<float>;

const char* reference_of(Scheme scheme) {
  switch (scheme) {
    case Scheme::torchvision_v2:
      return "mobilenet_v2";
    case Scheme::torchvision_v3:
      return "mobilenet_v3_large";
    case Scheme::torchvision_mnasnet:
      return "mnasnet_b1";
    case Scheme::timm:
    case Scheme::ofa:
    case Scheme::own:
      break;
  }
  return nullptr;  // names for any network
}

std::vector<PlanLayer> convolutions(const Plan& plan) {
  std::vector<PlanLayer> layers;
  std::copy_if(plan.layers.begin(), plan.layers.end(), std::back_inserter(layers),
               [](const PlanLayer& layer) { return !layer.kernels.empty(); });
  return layers;
}

bool same_shape(const PlanLayer& a, const PlanLayer& b) {
  return a.spec->kind == b.spec->kind && a.spec->stride == b.spec->stride &&
         a.spec->residual == b.spec->residual && a.spec->batch_norm == b.spec->batch_norm &&
         a.kernels.front().k == b.kernels.front().k && a.c_in.now == b.c_in.now &&
         a.c_exp.now == b.c_exp.now && a.c_hidden.now == b.c_hidden.now &&
         a.c_out.now == b.c_out.now;
}

/// The weights of `network` fit where those of the reference do.
bool same_shape(const Space& network, const Space& reference) {
  const Plan a = resolve(network, Arch::largest(network), 224);
  const Plan b = resolve(reference, Arch::largest(reference), 224);
  const std::vector<PlanLayer> x = convolutions(a), y = convolutions(b);
  return std::equal(x.begin(), x.end(), y.begin(), y.end(),
                    [](const PlanLayer& p, const PlanLayer& q) { return same_shape(p, q); });
}

/// Tensors under construction; their values stay where they are while others are added.
class Target {
 public:
  explicit Target(const ParamStore& params) : params_(params) {}

  void kernel(const NamedConv& conv) {
    const Param& param = at(conv.own + "/kernel");
    const std::int64_t k = param.weight.k, out = param.weight.out, in = param.shape.back();
    Floats values = read_dense(params_, param);
    Shape shape = {out, in, 1, 1};
    if (conv.kind == Kind::stem) {
      shape = {out, in, k, k};
      values = taps_last(values, out, k * k, in);
    } else if (conv.kind == Kind::depthwise) {
      shape = {in, 1, k, k};
      values = taps_last(values, 1, k * k, in);
    } else if (conv.conv.starts_with("classifier")) {  // Linear
      shape = {out, in};
    }
    add(conv.conv + ".weight", shape, std::move(values));
  }
  void vector(const std::string& own, const std::string& name) {
    const Param& param = at(own);
    add(name, param.shape, read_dense(params_, param));
  }
  void counter(const std::string& name) {
    static const std::int64_t kNone = 0;
    tensors_.push_back({name, "I64", {}, &kNone});
  }
  const std::vector<StoredTensor>& tensors() const { return tensors_; }

 private:
  const Param& at(const std::string& name) const {
    const Param* param = params_.find(name);
    require(param != nullptr, "parameter ", name, " is not registered");
    return *param;
  }
  void add(const std::string& name, const Shape& shape, Floats values) {
    values_.push_back(std::move(values));
    tensors_.push_back({name, "F32", shape, values_.back().data()});
  }
  /// outer times [taps][channels] to [channels][taps].
  static Floats taps_last(const Floats& from, std::int64_t outer, std::int64_t taps,
                          std::int64_t channels) {
    Floats to(from.size());
    std::size_t i = 0;
    for (std::int64_t o = 0; o < outer; ++o) {
      for (std::int64_t c = 0; c < channels; ++c) {
        for (std::int64_t t = 0; t < taps; ++t) {
          to[i++] = from[static_cast<std::size_t>((o * taps + t) * channels + c)];
        }
      }
    }
    return to;
  }

  const ParamStore& params_;
  std::deque<Floats> values_;
  std::vector<StoredTensor> tensors_;
};

}  // namespace

std::optional<Scheme> torchvision_scheme(const Space& network) {
  for (const Scheme scheme :
       {Scheme::torchvision_v2, Scheme::torchvision_v3, Scheme::torchvision_mnasnet}) {
    if (same_shape(network, Space::named(reference_of(scheme)))) return scheme;
  }
  return std::nullopt;
}

void save_foreign_weights(const ParamStore& params, const Space& network, Scheme scheme,
                          const std::string& file,
                          const std::map<std::string, std::string>& metadata) {
  const char* reference = reference_of(scheme);
  require(!reference || same_shape(network, Space::named(reference)), network.name,
          " has another shape than ", reference, ", so ", name_of(scheme),
          " is no network for its weights; choose the names of timm or ofa");
  Target target(params);
  for (const NamedConv& conv :
       named_convs(network, scheme, block_prefixes(scheme, network), file)) {
    target.kernel(conv);
    if (conv.norm.empty()) {
      target.vector(conv.own + "/bias", conv.conv + ".bias");
      continue;
    }
    target.vector(conv.own + "/norm/gamma", conv.norm + ".weight");
    target.vector(conv.own + "/norm/beta", conv.norm + ".bias");
    target.vector(conv.own + "/norm/mean", conv.norm + ".running_mean");
    target.vector(conv.own + "/norm/variance", conv.norm + ".running_var");
    target.counter(conv.norm + ".num_batches_tracked");
  }
  std::map<std::string, std::string> all = metadata;
  all["format"] = "pt";  // what safetensors' own readers look for
  engine::write_safetensors(file, target.tensors(), all);
}

}  // namespace tunas::search

#include "search/foreign_weights.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "engine/safetensors.h"
#include "kernels/error.h"
#include "search/family.h"

namespace tunas::search {
namespace {

using engine::Param;
using engine::ParamStore;
using engine::Safetensors;
using engine::Shape;
using Kind = NamedConv::Kind;
using Floats = std::vector<float>;

constexpr const char* kCounter = ".num_batches_tracked";

std::string text(const Shape& shape) {
  std::string joined = "[";
  for (const std::int64_t extent : shape) {
    joined += (joined.size() > 1 ? ", " : "") + std::to_string(extent);
  }
  return joined + "]";
}

/// [outer][rows][columns] to [outer][columns][rows].
Floats transposed(const Floats& from, std::size_t outer, std::size_t rows, std::size_t columns) {
  Floats to(from.size());
  for (std::size_t o = 0; o < outer; ++o) {
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < columns; ++c) {
        to[(o * columns + c) * rows + r] = from[(o * rows + r) * columns + c];
      }
    }
  }
  return to;
}

/// How a kernel lies with PyTorch: `outer` times [channels][taps]; with us: outer times
/// [taps][channels].
struct KernelLayout {
  Shape shape;
  std::size_t outer, channels, taps;
};

KernelLayout layout(Kind kind, const Param& kernel) {
  const std::int64_t k = kernel.weight.k, out = kernel.weight.out, in = kernel.shape.back();
  const auto size = [](std::int64_t extent) { return static_cast<std::size_t>(extent); };
  switch (kind) {
    case Kind::stem:
      return {{out, in, k, k}, size(out), size(in), size(k * k)};
    case Kind::depthwise:
      return {{in, 1, k, k}, 1, size(in), size(k * k)};
    case Kind::pointwise:
    case Kind::biased:
    case Kind::classifier:
      break;
  }
  return {{out, in, 1, 1}, size(out), size(in), 1};
}

/// Reads tensors, remembering which were used and what was wrong with the others.
class Source {
 public:
  explicit Source(const Safetensors& file) : file_(file) {}

  bool has(const std::string& name) const { return file_.find(name) != nullptr; }

  /// The tensor, of one of these shapes; nothing, and noted, where that is not what is there.
  std::optional<Floats> take(const std::string& name, const std::vector<Shape>& shapes) {
    const Safetensors::Entry* entry = file_.find(name);
    if (!entry) {
      missing_.push_back(name);
      return std::nullopt;
    }
    used_.insert(name);
    if (std::find(shapes.begin(), shapes.end(), entry->shape) == shapes.end()) {
      wrong_.push_back(name + " " + text(entry->shape) + " instead of " + text(shapes.front()));
      return std::nullopt;
    }
    ++report_.read;
    return file_.read_floats(name);
  }

  void assume(const std::string& what) { report_.assumed.push_back(what); }

  /// Error naming everything that did not go as it should.
  WeightsReport finish(const Space& network, Scheme scheme) {
    std::vector<std::string> unused;
    for (const Safetensors::Entry& entry : file_.entries()) {
      if (used_.contains(entry.name)) continue;
      (entry.name.ends_with(kCounter) ? report_.ignored : unused).push_back(entry.name);
    }
    if (!missing_.empty() || !unused.empty() || !wrong_.empty()) {
      fail(Exit::data, file_.path(), ": these weights (names of ", name_of(scheme),
           ") are not those of ", network.name, list("; missing: ", missing_),
           list("; of no layer: ", unused), list("; of another shape: ", wrong_),
           "; pass the architecture of these weights");
    }
    report_.scheme = scheme;
    return report_;
  }

 private:
  static std::string list(const char* title, const std::vector<std::string>& names) {
    constexpr std::size_t kNamed = 5;
    std::string joined;
    for (std::size_t i = 0; i < std::min(names.size(), kNamed); ++i) {
      joined += (joined.empty() ? title : ", ") + names[i];
    }
    if (names.size() > kNamed) {
      joined += " and " + std::to_string(names.size() - kNamed) + " more";
    }
    return joined;
  }

  const Safetensors& file_;
  std::set<std::string> used_;
  std::vector<std::string> missing_, wrong_;
  WeightsReport report_;
};

/// One convolution with its norm or bias, from `source` into `params`.
class Reading {
 public:
  Reading(ParamStore& params, Source& source, double epsilon)
      : params_(params), source_(source), epsilon_(epsilon) {}

  void read(const NamedConv& conv) {
    const KernelLayout want = layout(conv.kind, at(conv.own + "/kernel"));
    std::vector<Shape> shapes = {want.shape};
    if (want.taps == 1 && conv.kind != Kind::stem) {
      shapes.push_back({want.shape[0], want.shape[1]});
    }
    if (const auto kernel = source_.take(conv.conv + ".weight", shapes)) {
      put(conv.own + "/kernel", transposed(*kernel, want.outer, want.channels, want.taps));
    }
    const bool norm = !conv.norm.empty();
    const Shape channels = at(conv.own + (norm ? "/norm/gamma" : "/bias")).shape;
    const std::string bias = conv.conv + ".bias";
    std::optional<Floats> shift;
    if (source_.has(bias)) {
      shift = source_.take(bias, {channels});
    } else if (!norm) {
      source_.assume(bias + " taken as 0");
      shift = Floats(static_cast<std::size_t>(channels[0]), 0.0f);
    }
    if (!norm) {
      if (shift) put(conv.own + "/bias", *shift);
    } else if (shift && !source_.has(conv.norm + ".running_mean")) {
      folded(conv, *shift);
    } else {
      read_norm(conv, channels, shift);
    }
  }

 private:
  const Param& at(const std::string& name) const {
    const Param* param = params_.find(name);
    require(param != nullptr, "parameter ", name,
            " is not registered; was the network built with "
            "running averages?");
    return *param;
  }
  void put(const std::string& name, const Floats& values) {
    write_dense(params_, at(name), values);
  }

  void folded(const NamedConv& conv, const Floats& bias) {
    source_.assume(conv.conv + ": its batch norm is folded into it");
    put(conv.own + "/norm/gamma", Floats(bias.size(), 1.0f));
    put(conv.own + "/norm/beta", bias);
    put(conv.own + "/norm/mean", Floats(bias.size(), 0.0f));
    put(conv.own + "/norm/variance", Floats(bias.size(), static_cast<float>(1 - epsilon_)));
  }

  void read_norm(const NamedConv& conv, const Shape& channels, const std::optional<Floats>& bias) {
    const auto size = static_cast<std::size_t>(channels[0]);
    if (!source_.has(conv.norm + ".weight") && !source_.has(conv.norm + ".bias")) {
      source_.assume(conv.norm + ": no scale and shift, taken as 1 and 0");
      put(conv.own + "/norm/gamma", Floats(size, 1.0f));
      put(conv.own + "/norm/beta", Floats(size, 0.0f));
    } else {
      copy(conv.norm + ".weight", conv.own + "/norm/gamma", channels);
      copy(conv.norm + ".bias", conv.own + "/norm/beta", channels);
    }
    if (auto mean = source_.take(conv.norm + ".running_mean", {channels})) {
      for (std::size_t i = 0; bias && i < size; ++i) (*mean)[i] -= (*bias)[i];
      put(conv.own + "/norm/mean", *mean);
    }
    copy(conv.norm + ".running_var", conv.own + "/norm/variance", channels);
  }

  void copy(const std::string& from, const std::string& to, const Shape& shape) {
    if (const auto values = source_.take(from, {shape})) put(to, *values);
  }

  ParamStore& params_;
  Source& source_;
  double epsilon_;
};

std::vector<std::string> names_of(const Safetensors& file) {
  std::vector<std::string> names;
  for (const Safetensors::Entry& entry : file.entries()) names.push_back(entry.name);
  return names;
}

/// Error(Exit::numeric) naming the first parameter with a number that is not finite.
void check_finite(const ParamStore& params, const std::string& file) {
  for (const Param& param : params.params()) {
    for (const float value : params.read(param)) {
      if (std::isfinite(value)) continue;
      fail(Exit::numeric, file, ": numbers of ", param.name,
           " are not finite; did its training "
           "diverge?");
    }
  }
}

WeightsReport load_any(ParamStore& params, const Space& network, const std::string& file) {
  const Safetensors tensors(file);
  const std::vector<std::string> names = names_of(tensors);
  const Scheme scheme = scheme_of(tensors);
  if (scheme == Scheme::own) {
    load_weights(params, tensors, network.name);
    return {Scheme::own, static_cast<int>(tensors.entries().size()), {}, {}};
  }
  Source source(tensors);
  Reading reading(params, source, network.bn_epsilon);
  for (const NamedConv& conv : named_convs(network, scheme, block_prefixes(scheme, names), file)) {
    reading.read(conv);
  }
  return source.finish(network, scheme);
}

}  // namespace

WeightsReport load_weights_any(ParamStore& params, const Space& network, const std::string& file) {
  const WeightsReport report = load_any(params, network, file);
  check_finite(params, file);
  return report;
}

WeightsReport load_weights_any(Network& network, const std::string& file) {
  return load_weights_any(network.params(), network.supernet().space(), file);
}

}  // namespace tunas::search

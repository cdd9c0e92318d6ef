#include "search/family.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "kernels/error.h"

namespace tunas::search {
namespace {

using engine::Safetensors;
using Metadata = std::map<std::string, std::string>;

constexpr ImageFacts timm_images() { return {.interpolation = Resample::bicubic}; }

// torchvision: docs.pytorch.org/vision/stable/models, transforms of the IMAGENET1K_V1 weights (also
// of torchvision 0.14: resize_size 256, crop_size 224, bilinear); IMAGENET1K_V2 of the first two
// have the same names and 232, which their file must say (resize). models/mobilenetv2.py,
// mnasnet.py (PyTorch's epsilon), mobilenetv3.py (norm_layer eps 0.001). timm: pretrained_cfg of
// timm 0.9.16 (bicubic, crop_pct 0.875: 256), BatchNorm2d with PyTorch's epsilon. ProxylessNAS and
// once-for-all: networks/proxyless_nets.py and mobilenet_v3.py (bn_param), eval_ofa_net.py (Resize
// to 1 / 0.875).
constexpr Family kFamilies[] = {
    {"torchvision/mobilenet_v2", Scheme::torchvision_v2, "mobilenet_v2", Padding::symmetric, 1e-5,
     Act::relu6, Act::hard_sigmoid, ImageFacts{}, "MobileNet_V2_Weights.IMAGENET1K_V1"},
    {"torchvision/mobilenet_v3_large", Scheme::torchvision_v3, "mobilenet_v3_large",
     Padding::symmetric, 1e-3, Act::relu, Act::hard_sigmoid, ImageFacts{},
     "MobileNet_V3_Large_Weights.IMAGENET1K_V1"},
    {"torchvision/mnasnet1_0", Scheme::torchvision_mnasnet, "mnasnet_b1", Padding::symmetric, 1e-5,
     Act::relu, Act::hard_sigmoid, ImageFacts{}, "MNASNet1_0_Weights.IMAGENET1K_V1"},
    {"timm/mobilenetv2_100", Scheme::timm, "mobilenet_v2", Padding::symmetric, 1e-5, Act::relu6,
     Act::hard_sigmoid, timm_images(), "pretrained_cfg of mobilenetv2_100.ra_in1k"},
    {"timm/mobilenetv3_large_100", Scheme::timm, "mobilenet_v3_large", Padding::symmetric, 1e-5,
     Act::relu, Act::hard_sigmoid, timm_images(),
     "pretrained_cfg of mobilenetv3_large_100.ra_in1k"},
    {"timm/mnasnet_100", Scheme::timm, "mnasnet_b1", Padding::symmetric, 1e-5, Act::relu,
     Act::hard_sigmoid, timm_images(), "pretrained_cfg of mnasnet_100.rmsp_in1k"},
    {"ofa/proxylessnas", Scheme::ofa, "", Padding::symmetric, 1e-3, Act::relu6, Act::hard_sigmoid,
     ImageFacts{}, "ProxylessNASNets"},
    {"ofa/mobilenet_v3", Scheme::ofa, "", Padding::symmetric, 1e-5, Act::relu, Act::hard_sigmoid,
     ImageFacts{}, "MobileNetV3"},
};

const Family* named(std::string_view name) {
  const auto found = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                  [&](const Family& family) { return family.name == name; });
  return found == std::end(kFamilies) ? nullptr : found;
}

/// timm gives all its networks the same names: the head tells MobileNetV3, the first kernel of the
/// third stage MnasNet (5 x 5) from MobileNetV2 (3 x 3).
const Family* timm_family(const Safetensors& weights) {
  if (weights.find("conv_head.bias")) return named("timm/mobilenetv3_large_100");
  const Safetensors::Entry* kernel = weights.find("blocks.2.0.conv_dw.weight");
  const bool wide = kernel && kernel->shape.size() == 4 && kernel->shape[3] == 5;
  return named(wide ? "timm/mnasnet_100" : "timm/mobilenetv2_100");
}

const Family* base_of(const Safetensors& weights) {
  const Scheme scheme = scheme_of(weights);
  if (scheme == Scheme::own) {
    const auto name = weights.metadata().find("family");
    return name == weights.metadata().end() ? nullptr : named(name->second);
  }
  if (scheme == Scheme::timm) return timm_family(weights);
  if (scheme == Scheme::ofa) {
    return named(weights.find("final_expand_layer.conv.weight") ? "ofa/mobilenet_v3"
                                                                : "ofa/proxylessnas");
  }
  for (const Family& family : kFamilies) {
    if (family.scheme == scheme) return &family;
  }
  return nullptr;
}

/// What a file's metadata say of its network.
class Said {
 public:
  explicit Said(const Safetensors& weights) : weights_(weights) {}

  const std::string* text(const char* key) const {
    const auto found = weights_.metadata().find(key);
    return found == weights_.metadata().end() ? nullptr : &found->second;
  }
  /// `count` numbers between `least` and `most`, separated by commas.
  bool numbers(const char* key, std::size_t count, double least, double most, double* out) const {
    const std::string* list = text(key);
    if (!list) return false;
    const char *at = list->data(), *const end = at + list->size();
    for (std::size_t i = 0; i < count; ++i) {
      while (at < end && (*at == ' ' || (i > 0 && *at == ','))) ++at;
      const auto [next, error] = std::from_chars(at, end, out[i]);
      if (error != std::errc() || !(out[i] >= least && out[i] <= most)) refuse(key);
      at = next;
    }
    if (at != end) refuse(key);
    return true;
  }
  [[noreturn]] void refuse(const char* key) const {
    fail(Exit::data, weights_.path(), ": its metadata say ", key, " = '", *text(key),
         "', which is not what is expected there; write the file again with what is meant");
  }

 private:
  const Safetensors& weights_;
};

bool says_padding(const Said& said, Padding& padding) {
  const std::string* text = said.text("padding");
  if (!text) return false;
  const bool same = text->find("SAME") != std::string::npos || *text == "same";
  if (!same && !text->starts_with("symmetric")) return false;
  padding = same ? Padding::same : Padding::symmetric;
  return true;
}

/// One of two words; anything else is taken for somebody else's.
template <class T>
void says_one_of(const Said& said, const char* key, std::pair<const char*, T> a,
                 std::pair<const char*, T> b, T& value) {
  const std::string* text = said.text(key);
  if (text && *text == a.first) value = a.second;
  if (text && *text == b.first) value = b.second;
}

ImageFacts said_of_images(const Said& said, ImageFacts images) {
  double resolution = 0, resize = 0;
  if (said.numbers("resolution", 1, 8, 4096, &resolution)) {
    if (static_cast<int>(resolution) % 8 != 0) said.refuse("resolution");  // as of every space
    images = at_resolution(images, static_cast<int>(resolution));
  }
  if (said.numbers("resize", 1, 0, 8192, &resize)) images.resize = static_cast<int>(resize);
  said.numbers("mean", 3, -1e3, 1e3, images.mean);
  said.numbers("std", 3, 1e-6, 1e3, images.std);
  const std::string* how = said.text("interpolation");
  for (const Resample resample :
       {Resample::legacy_bicubic, Resample::bicubic, Resample::bilinear}) {
    if (how && *how == kResampleNames[static_cast<int>(resample)]) images.interpolation = resample;
  }
  return images;
}

}  // namespace

std::span<const Family> families() { return kFamilies; }

Scheme scheme_of(const Safetensors& weights) {
  std::vector<std::string> names;
  for (const Safetensors::Entry& entry : weights.entries()) names.push_back(entry.name);
  const std::optional<Scheme> scheme = scheme_of(names);
  if (!scheme) {
    fail(Exit::data, weights.path(), ": its tensors (", names.empty() ? "none" : names.front(),
         ", ...) have no names that are known; those of tunas, torchvision's mobilenet_v2, "
         "mobilenet_v3_large and mnasnet, timm's of the same, ProxylessNAS and once-for-all are");
  }
  return *scheme;
}

std::optional<Family> family_of(const Safetensors& weights) {
  const Family* base = base_of(weights);
  if (!base) return std::nullopt;
  Family family = *base;
  const Said said(weights);
  says_padding(said, family.padding);
  said.numbers("bn_eps", 1, 1e-12, 0.5, &family.bn_epsilon);
  says_one_of<Act>(said, "relu", {"relu", Act::relu}, {"relu6", Act::relu6}, family.relu);
  says_one_of<Act>(said, "gate", {"sigmoid", Act::sigmoid}, {"hard_sigmoid", Act::hard_sigmoid},
                   family.gate);
  family.images = said_of_images(said, family.images);
  return family;
}

Metadata metadata_of(const Family& family) {
  const ImageFacts& images = family.images;
  const auto three = [](const double(&x)[3]) { return fmt::format("{},{},{}", x[0], x[1], x[2]); };
  return {{"family", family.name},
          {"bn_eps", fmt::format("{}", family.bn_epsilon)},
          {"padding", kPaddingNames[static_cast<int>(family.padding)]},
          {"relu", family.relu == Act::relu6 ? "relu6" : "relu"},
          {"gate", family.gate == Act::sigmoid ? "sigmoid" : "hard_sigmoid"},
          {"resolution", std::to_string(images.resolution)},
          {"resize", std::to_string(images.resize)},
          {"mean", three(images.mean)},
          {"std", three(images.std)},
          {"interpolation", kResampleNames[static_cast<int>(images.interpolation)]}};
}

Family with_facts_of(const Family& family, const Space& network) {
  Family made = family;
  made.padding = network.padding;
  made.bn_epsilon = network.bn_epsilon;
  made.images = at_resolution(made.images, network.resolution);
  for (const Block& block : network.blocks) {
    for (const Layer& layer : block.layers) {
      const bool mobile = layer.kind == LayerKind::bottleneck || layer.kind == LayerKind::separable;
      if (!mobile) continue;
      if (layer.act == Act::relu || layer.act == Act::relu6) made.relu = layer.act;
      const bool gated = layer.kind == LayerKind::bottleneck && layer.squeeze_excite.back() == 1;
      if (gated) made.gate = layer.gate;
    }
  }
  return made;
}

ImageFacts at_resolution(const ImageFacts& images, int resolution) {
  ImageFacts scaled = images;
  scaled.resolution = resolution;
  scaled.resize = resolution * images.resize / images.resolution;
  return scaled;
}

ImageFacts facts_of(const Preprocess& preprocess, int resolution) {
  ImageFacts facts;
  facts.resolution = resolution;
  facts.resize = preprocess.resize;
  facts.interpolation = preprocess.resample;
  for (int c = 0; c < 3; ++c) {
    const auto share = [](float value) { return std::round(value / 255.0 * 1e6) / 1e6; };
    facts.mean[c] = share(preprocess.normalization.mean[c]);
    facts.std[c] = share(preprocess.normalization.std[c]);
  }
  return facts;
}

Preprocess preprocess_of(const ImageFacts& images) {
  Preprocess made;
  made.resize = images.resize;
  made.resample = images.interpolation;
  for (int c = 0; c < 3; ++c) {
    made.normalization.mean[c] = static_cast<float>(255 * images.mean[c]);
    made.normalization.std[c] = static_cast<float>(255 * images.std[c]);
  }
  return made;
}

int classes_of(const Safetensors& weights) {
  for (const char* name : {"classifier/bias", "classifier.1.bias", "classifier.3.bias",
                           "classifier.bias", "classifier.linear.bias"}) {
    const Safetensors::Entry* bias = weights.find(name);
    if (bias && bias->shape.size() == 1 && bias->shape[0] >= 2 && bias->shape[0] < 1'000'000) {
      return static_cast<int>(bias->shape[0]);
    }
  }
  fail(Exit::data, weights.path(),
       ": has no classifier, such as 'classifier/bias'; are these the weights of a network?");
}

Space fitted(const Space& network, Origin origin, const Safetensors& weights) {
  Space space = network;
  space.classes = classes_of(weights);
  const std::optional<Family> family = family_of(weights);
  if (!family) return space;
  const Said said(weights);
  double ignored = 0;
  Padding padding = family->padding;
  const bool whole = origin == Origin::reference;
  if (says_padding(said, padding) || whole) space.padding = padding;
  if (said.numbers("bn_eps", 1, 1e-12, 0.5, &ignored) || whole) {
    space.bn_epsilon = family->bn_epsilon;
  }
  if (said.numbers("resolution", 1, 8, 4096, &ignored) || whole) {
    space.resolution = family->images.resolution;
  }
  if (!whole) return space;
  for (Block& block : space.blocks) {
    for (Layer& layer : block.layers) {
      const bool mobile = layer.kind == LayerKind::bottleneck || layer.kind == LayerKind::separable;
      const bool acts = mobile || layer.kind == LayerKind::activation;
      if (acts && layer.act == Act::relu) layer.act = family->relu;
      const bool gated = layer.kind == LayerKind::bottleneck && layer.squeeze_excite.back() == 1;
      if (gated) layer.gate = family->gate;
    }
  }
  return space;
}

}  // namespace tunas::search

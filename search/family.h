// Families: what the published weights of other programs assume of the network and of its images.
// Their names alone tell which family weights belong to; what their file says of itself
// (__metadata__) goes before what the family usually does:
//
//   bn_eps         "1e-05"                      mean, std      "0.5,0.5,0.5", of values from 0 to 1
//   padding        begins with symmetric, or holds SAME        resolution     "224", a multiple of
//   8 interpolation  bilinear, bicubic,           resize         "256", of the shorter side; "0":
//                  legacy_bicubic                              the central 0.875 is resized
//   relu           relu, relu6                  gate           sigmoid, hard_sigmoid
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>

#include "engine/preprocess.h"
#include "engine/safetensors.h"
#include "search/foreign_names.h"

namespace tunas::search {

/// Images as the weights saw them: the shorter side resized to `resize`, of that the central square
/// of `resolution`, (x / 255 - mean) / std.
struct ImageFacts {
  int resolution = 224;
  int resize = 256;
  double mean[3] = {0.485, 0.456, 0.406};
  double std[3] = {0.229, 0.224, 0.225};
  Resample interpolation = Resample::bilinear;
};

struct Family {
  const char* name;  // timm/mobilenetv2_100
  Scheme scheme;
  const char* reference;  // our network of this shape; empty: an architecture file must say
  Padding padding;
  double bn_epsilon;
  Act relu;  // what stands where the reference network has relu
  Act gate;  // of squeeze-and-excite
  ImageFacts images;
  const char* source;  // of these facts
};

/// All of them.
std::span<const Family> families();

/// What the names of a file's tensors are. Error(Exit::data) where they are nobody's.
Scheme scheme_of(const engine::Safetensors& weights);

/// The family of a file's weights, with what the file says of itself. None: weights of this program
/// that were not imported. Error(Exit::data) as scheme_of, and where the metadata cannot be read.
std::optional<Family> family_of(const engine::Safetensors& weights);

/// The metadata that make family_of say the same of our own file of these weights.
std::map<std::string, std::string> metadata_of(const Family& family);

/// Outputs of the classifier. Error(Exit::data) where there is none.
int classes_of(const engine::Safetensors& weights);

/// A family as `network` really is: its padding, epsilon, activation, gate and resolution.
Family with_facts_of(const Family& family, const Space& network);

/// The same at another resolution: what is resized keeps its proportion to what is shown.
ImageFacts at_resolution(const ImageFacts& images, int resolution);

/// What the image kernel and the crops make of `images`, and back.
Preprocess preprocess_of(const ImageFacts& images);
ImageFacts facts_of(const Preprocess& preprocess, int resolution);

/// A reference network is the shape of a family; a file says what it means.
enum class Origin : unsigned char { reference, file };

/// `network` as its weights want it: their number of classes and, of another program's weights,
/// padding, epsilon and resolution (of a file: where the weights' metadata have them) and for a
/// reference network activations and gates.
Space fitted(const Space& network, Origin origin, const engine::Safetensors& weights);

}  // namespace tunas::search

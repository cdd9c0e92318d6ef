// Architectures as timm's block strings
// (https://github.com/huggingface/pytorch-image-models, timm/models/_efficientnet_builder.py) in a
// small JSON around them, whose keys are the arguments of timm's classes:
//
//   {"model": "MobileNetV3",            EfficientNet: conv_head and its norm, then the pool;
//                                       MobileNetV3: pool, then conv_head with bias
//    "name": "mobilenetv3_large_100", "input_size": [3, 224, 224], "num_classes": 1000,
//    "stem_size": 16,                   filters of the 3 x 3 convolution of stride 2
//    "arch_def": [["ds_r1_k3_s1_e1_c16_nre"], ["ir_r1_k3_s2_e4_c24_nre", ...], ...],
//    "num_features": 1280,              filters of conv_head
//    "act_layer": "hard_swish",         where a string has no n: relu, relu6, hard_swish
//    "se_gate": "hard_sigmoid",         or sigmoid
//    "pad_type": "", "bn_eps": 1e-05, "drop_rate": 0.2}     pad_type: "" is k/2, "same"
//    TensorFlow's
//
// A string: ir (inverted residual), ds (depthwise separable) or cn (1 x 1 convolution, the last
// stage), then r repeats, k kernel, s stride (of the first repeat), e expansion, c channels,
// se0.25, nre nr6 nhs activation, noskip. Middle width: e * input, to the nearest multiple of 8, up
// where that loses a tenth. A layer of stride 1 that keeps its width adds its input unless noskip.
#pragma once

#include <string>

#include "search/space.h"

namespace tunas::search {

/// Whether a JSON document is of this kind, judged by its keys.
bool is_block_strings(const std::string& json);

/// The network as a Space with one point; `where` names the source in errors.
/// Error(Exit::usage) where it has parts that this engine does not.
Space parse_block_strings(const std::string& json, const std::string& where);

/// A network with one point in this JSON. Error(Exit::usage) where timm has no words for it.
std::string block_strings(const Space& network);

}  // namespace tunas::search

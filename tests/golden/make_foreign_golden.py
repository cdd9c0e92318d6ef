"""Golden logits for the import of other programs' weights: what PyTorch computes.

    /usr/bin/python3 -m venv --system-site-packages venv     # Debian's python3-torch, python3-torchvision
    venv/bin/pip install --no-deps timm==0.9.16 safetensors huggingface_hub==0.20.3
    venv/bin/pip install fsspec tqdm filelock requests pyyaml packaging
    venv/bin/python tests/golden/make_foreign_golden.py SHARED_DATA/weights > tests/golden/foreign.json

Two parts.
  models   networks of torchvision and timm, and two once-for-all networks restated here, whose
           weights come from their names by a formula (weight_values), so that the test can make the
           same file; names and shapes of all tensors, and logits of two images.
  files    the published weight files beside the tree; logits of one image.
Images come from the formula, too: random bytes, normalised with mean and deviation 127.5 for every
network alike.
"""
import json
import math
import sys

import numpy as np
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

CLASSES = 24


def noise(seed, count):
    """splitmix64 of seed + i, as floats in [-1, 1) with 24 bits."""
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count + 1, dtype=np.uint64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return ((x >> np.uint64(40)).astype(np.float64) / 2**23 - 1).astype(np.float32)


def fnv1a(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


def weight_values(name, shape):
    """Kernels keep the size of what they are given; statistics and scales are near theirs."""
    count = math.prod(shape)
    x = noise(fnv1a(name), count)
    if name.endswith("running_var"):
        x = np.float32(1) + np.float32(0.5) * x
    elif len(shape) == 1 and name.endswith("weight"):
        x = np.float32(1) + np.float32(0.25) * x
    elif len(shape) == 1:
        x = np.float32(0.25) * x
    else:
        x = np.float32(2.4 / math.sqrt(math.prod(shape[1:]))) * x
    return torch.from_numpy(x.reshape(shape))


def image(seed, resolution):
    """[1][3][R][R] of (byte - 127.5) / 127.5; bytes are the noise's highest eight bits, colours fastest."""
    x = np.floor(128 * (1 + noise(seed, resolution * resolution * 3).astype(np.float64)))
    x = ((x - 127.5) / 127.5).reshape(1, resolution, resolution, 3)
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()


def run(model, images):
    model = model.double().eval()
    with torch.no_grad():
        return [[float(f"{v:.9g}") for v in model(x.double()).flatten().tolist()] for x in images]


class SqueezeExcite(nn.Module):  # once-for-all, utils/pytorch_modules.py: SEModule
    def __init__(self, channels):
        super().__init__()
        hidden = max(8, int(channels // 4 + 4) // 8 * 8)
        hidden += 8 if hidden < 0.9 * (channels // 4) else 0
        self.fc = nn.Sequential()
        self.fc.add_module("reduce", nn.Conv2d(channels, hidden, 1))
        self.fc.add_module("relu", nn.ReLU())
        self.fc.add_module("expand", nn.Conv2d(hidden, channels, 1))
        self.fc.add_module("h_sigmoid", nn.Hardsigmoid())

    def forward(self, x):
        return x * self.fc(x.mean((2, 3), keepdim=True))


ACTS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "h_swish": nn.Hardswish}


def conv_bn(i, o, k, s, groups, act, eps):
    layers = nn.Sequential()
    layers.add_module("conv", nn.Conv2d(i, o, k, s, k // 2, groups=groups, bias=False))
    layers.add_module("bn", nn.BatchNorm2d(o, eps=eps))
    if act:
        layers.add_module("act", ACTS[act]())
    return layers


class Inverted(nn.Module):
    def __init__(self, c, eps, word):
        super().__init__()
        i, o = c["in_channels"], c["out_channels"]
        mid = c["mid_channels"] or round(i * c["expand_ratio"])
        inner = nn.Module()
        if c["expand_ratio"] != 1:
            inner.inverted_bottleneck = conv_bn(i, mid, 1, 1, 1, c["act_func"], eps)
        inner.depth_conv = conv_bn(mid, mid, c["kernel_size"], c["stride"], mid, c["act_func"], eps)
        if c["use_se"]:
            inner.depth_conv.add_module("se", SqueezeExcite(mid))
        inner.point_linear = conv_bn(mid, o, 1, 1, 1, None, eps)
        setattr(self, word, inner)
        self.word = word

    def forward(self, x):
        for layer in getattr(self, self.word).children():
            x = layer(x)
        return x


class NetConfig(nn.Module):
    """ProxylessNASNets and MobileNetV3 of once-for-all, built from their net.config."""

    def __init__(self, config, word="mobile_inverted_conv"):
        super().__init__()
        eps = config["bn"]["eps"]
        conv = lambda c: conv_bn(c["in_channels"], c["out_channels"], c["kernel_size"], c["stride"], 1,
                                 c["act_func"], eps)
        self.first_conv = conv(config["first_conv"])
        self.blocks = nn.ModuleList()
        self.adds = []
        for block in config["blocks"]:
            inner = block["mobile_inverted_conv"]
            zero = inner["name"] == "ZeroLayer"
            self.blocks.append(nn.Identity() if zero else Inverted(inner, eps, word))
            self.adds.append(block["shortcut"] is not None and not zero)
        self.v3 = "final_expand_layer" in config
        mix = config["feature_mix_layer"]
        if self.v3:
            self.final_expand_layer = conv(config["final_expand_layer"])
            self.feature_mix_layer = nn.Sequential()
            self.feature_mix_layer.add_module(
                "conv", nn.Conv2d(mix["in_channels"], mix["out_channels"], 1, bias=mix["bias"]))
            self.feature_mix_layer.add_module("act", ACTS[mix["act_func"]]())
        else:
            self.feature_mix_layer = conv(mix)
        self.classifier = nn.Sequential()
        c = config["classifier"]
        self.classifier.add_module("linear", nn.Linear(c["in_features"], c["out_features"]))

    def forward(self, x):
        x = self.first_conv(x)
        for block, adds in zip(self.blocks, self.adds):
            x = block(x) + x if adds else block(x)
        if self.v3:
            x = self.final_expand_layer(x).mean((2, 3), keepdim=True)
            return self.classifier(self.feature_mix_layer(x).flatten(1))
        return self.classifier(self.feature_mix_layer(x).mean((2, 3)))


def once_for_all():
    """A small MobileNetV3 of once-for-all with all that its format has."""
    block = lambda i, o, k, s, e, mid, act, se, adds: {
        "name": "ResidualBlock",
        "mobile_inverted_conv": {
            "name": "MBConvLayer", "in_channels": i, "out_channels": o, "kernel_size": k, "stride": s,
            "expand_ratio": e, "mid_channels": mid, "act_func": act, "use_se": se, "groups": None},
        "shortcut": {"name": "IdentityLayer", "in_channels": i, "out_channels": i, "use_bn": False,
                     "act_func": None, "dropout_rate": 0, "ops_order": "weight_bn_act"} if adds else None}
    zero = {"name": "ResidualBlock", "mobile_inverted_conv": {"name": "ZeroLayer"},
            "shortcut": {"name": "IdentityLayer", "in_channels": 24, "out_channels": 24}}
    conv = lambda i, o, k, s, bn, act: {
        "name": "ConvLayer", "kernel_size": k, "stride": s, "dilation": 1, "groups": 1, "bias": False,
        "has_shuffle": False, "use_se": False, "in_channels": i, "out_channels": o, "use_bn": bn,
        "act_func": act, "dropout_rate": 0, "ops_order": "weight_bn_act"}
    return {
        "name": "MobileNetV3", "bn": {"momentum": 0.1, "eps": 1e-5, "ws_eps": None},
        "first_conv": conv(3, 16, 3, 2, True, "h_swish"),
        "blocks": [block(16, 16, 3, 1, 1, None, "relu", False, True),
                   block(16, 24, 3, 2, None, 64, "relu", False, False), zero,
                   block(24, 24, 7, 1, 3, None, "relu", True, True),
                   block(24, 40, 5, 2, 4, None, "h_swish", True, False),
                   block(40, 40, 5, 1, None, 104, "h_swish", True, True)],
        "final_expand_layer": conv(40, 240, 1, 1, True, "h_swish"),
        "feature_mix_layer": conv(240, 128, 1, 1, False, "h_swish"),
        "classifier": {"name": "LinearLayer", "in_features": 128, "out_features": CLASSES, "bias": True,
                       "use_bn": False, "act_func": None, "dropout_rate": 0.1,
                       "ops_order": "weight_bn_act"},
        "resolution": 72}


def from_names(model, resolution, extra=None):
    shapes = {name: list(t.shape) for name, t in model.state_dict().items()}
    for name, tensor in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            tensor.copy_(weight_values(name, shapes[name]))
    images = [image(seed, resolution) for seed in (1, 2)]
    return {"resolution": resolution, "shapes": shapes, "logits": run(model, images), **(extra or {})}


def main(folder):
    models = {}
    for name in ("mobilenet_v2", "mobilenet_v3_large", "mnasnet1_0"):
        made = getattr(torchvision.models, name)(num_classes=CLASSES)
        models["torchvision/" + name] = from_names(made, 72)
    for name in ("mobilenetv2_100", "mobilenetv3_large_100", "mnasnet_100"):
        models["timm/" + name] = from_names(timm.create_model(name, num_classes=CLASSES), 72)
    config = once_for_all()
    for word in ("mobile_inverted_conv", "conv"):
        models["ofa/mobilenet_v3 " + word] = from_names(NetConfig(config, word), 72, {"net_config": config})

    files = {}
    proxyless = NetConfig(json.load(open(folder + "/proxyless-w0.3-r176_arch.json")))
    name = "proxyless-w0.3-r176_imagenet"
    proxyless.load_state_dict(load_file(folder + "/" + name + ".safetensors"))
    files[name] = {"resolution": 176, "logits": run(proxyless, [image(3, 176)])}

    v2 = torchvision.models.mobilenet_v2()
    name = "mobilenet_v2_1.0_224_tf_ptq_dequant"
    v2.load_state_dict(load_file(folder + "/" + name + ".safetensors"))
    files[name + " symmetric"] = {"resolution": 224, "logits": run(v2, [image(3, 224)])}
    for module in v2.modules():  # TensorFlow's SAME, as the file asks for: at stride 2, one after
        if isinstance(module, nn.Sequential) and len(module) and isinstance(module[0], nn.Conv2d) \
                and module[0].stride == (2, 2):
            module[0].padding = (0, 0)
            module[0] = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), module[0])
    files[name] = {"resolution": 224, "logits": run(v2, [image(3, 224)])}
    print(json.dumps({
        "version": f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}",
        "models": models, "files": files}))


main(sys.argv[1])

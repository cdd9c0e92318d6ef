"""Trains a network of torchvision, for parity_test.cpp: parity_peer.py GIVEN BATCHES START MADE

GIVEN     a state dict.
BATCHES   images [steps][n][3][R][R], normalised, and labels [steps][n]; in its metadata network, smoothing,
          inside (see place_biases), rate, momentum and weight_decay (of SGD) and bn_momentum (of running
          averages, as PyTorch has it).
START     written: GIVEN with other biases before activations, see place_biases. Training begins here.
MADE      written, once as float32/... and once, computed in float64, as float64/...:
            loss [steps], gradient/NAME of the first step, final/NAME: the state dict after the last one
          kink []: how near to a kink an activation of the first step begins; rounding []: the largest
          difference between float32 and float64 there.
"""
import json
import sys

import torch
import torchvision
from torch import nn

TYPES = {"F64": torch.float64, "F32": torch.float32, "I64": torch.int64}
# Where derivatives jump.
KINKS = {nn.ReLU: [0.0], nn.ReLU6: [0.0, 6.0], nn.Hardswish: [-3.0, 3.0], nn.Hardsigmoid: [-3.0, 3.0]}
REACH = 0.02


def read(path):
    """The tensors of a safetensors file and its metadata."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = bytearray(file.read())
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, of in header.items():
        begin, end = of["data_offsets"]
        flat = torch.frombuffer(data[begin:end], dtype=TYPES[of["dtype"]])
        tensors[name] = flat.reshape(of["shape"])
    return tensors, metadata


def write(path, tensors):
    names = {dtype: name for name, dtype in TYPES.items()}
    header, data, at = {}, [], 0
    for name, tensor in tensors.items():
        data.append(tensor.detach().contiguous().numpy().tobytes())
        end = at + len(data[-1])
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + b"".join(data))


def network(name, state, dtype):
    classes = state["classifier.1.bias" if name == "mobilenet_v2" else "classifier.3.bias"].shape[0]
    model = getattr(torchvision.models, name)(weights=None, num_classes=classes, dropout=0.0)
    model.load_state_dict(state)
    return model.to(dtype).train()


def place_biases(name, state, images, inside):
    """The state with the biases before activations set so that of every channel's inputs the mean lies
    `inside` deviations inside a kink (alternately, where there are two): of 3 one input in several hundred is
    beyond it. And none is close to one: of the positions up to REACH away it is the middle of the widest gap.

    Without the gap, rounding decides on which side one of millions of inputs lies, and by a single one that
    changes sides gradients differ by 1e-3 and more, also from PyTorch's float32 to its float64. With kinks in
    the middle of all inputs, as when trainings usually start, ten steps make of a rounding what no two
    programs agree on: PyTorch's float32 and float64 then differ by 0.07 in running variances of MobileNetV2,
    from here by 2e-5.
    """
    model = network(name, state, torch.float64)
    last = [None]

    def remember(module, inputs):
        last[0] = module

    def place(module, inputs):
        x, kinks = inputs[0], KINKS[type(module)]
        values = x.transpose(0, 1).flatten(1)
        channel = torch.arange(len(values)) % len(kinks)
        inwards = 1 - 2 * channel
        shift = torch.tensor(kinks)[channel] + inside * inwards * values.std(1) - values.mean(1)
        hits = torch.cat([kink - values for kink in kinks], 1) - shift[:, None]
        ends = torch.tensor([-REACH, REACH], dtype=x.dtype).expand(len(hits), 2)
        hits = torch.cat([hits.clamp(-REACH, REACH), ends], 1).sort(1).values
        widest = hits.diff(dim=1).argmax(1, keepdim=True)
        shift += (hits.gather(1, widest) + hits.gather(1, widest + 1)).flatten() / 2
        last[0].bias += shift
        return (x + shift.reshape([1, -1] + [1] * (x.dim() - 2)),)

    for module in model.modules():
        if type(module) in KINKS:
            module.register_forward_pre_hook(place)
        elif getattr(module, "bias", None) is not None:
            module.register_forward_pre_hook(remember)
    with torch.no_grad():
        model(images.double())
    biases = {key: value.float() for key, value in model.named_parameters() if key.endswith(".bias")}
    return {**state, **biases}


def train(state, batches, settings, dtype):
    """What MADE holds, and the inputs of the activations in the first step."""
    model = network(settings["network"], state, dtype)
    inputs, handles = [], []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = float(settings["bn_momentum"])
        if type(module) in KINKS:
            kinks = KINKS[type(module)]
            handles.append(module.register_forward_pre_hook(
                lambda module, x, kinks=kinks: inputs.append((kinks, x[0].detach().clone()))))
    optimizer = torch.optim.SGD(model.parameters(), float(settings["rate"]), float(settings["momentum"]),
                                weight_decay=float(settings["weight_decay"]))
    made, losses = {}, []
    for images, labels in zip(batches["images"].to(dtype), batches["labels"]):
        loss = nn.functional.cross_entropy(model(images), labels, label_smoothing=float(settings["smoothing"]))
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            made.update({f"gradient/{key}": p.grad.clone() for key, p in model.named_parameters()})
            for handle in handles:
                handle.remove()
        losses.append(loss.item())
        optimizer.step()
    made["loss"] = torch.tensor(losses, dtype=torch.float64)
    made.update({f"final/{key}": value for key, value in model.state_dict().items()})
    return made, inputs


def main():
    given, batches, start, made = sys.argv[1:]
    state, _ = read(given)
    batches, settings = read(batches)
    state = place_biases(settings["network"], state, batches["images"][0], float(settings["inside"]))
    write(start, state)
    single, rounded = train(state, batches, settings, torch.float32)
    double, exact = train(state, batches, settings, torch.float64)
    kink = min((x - kink).abs().min() for kinks, x in exact for kink in kinks)
    rounding = max((x - y).abs().max() for (_, x), (_, y) in zip(rounded, exact))
    results = {"kink": kink, "rounding": rounding}
    results.update({f"float32/{key}": value for key, value in single.items()})
    results.update({f"float64/{key}": value for key, value in double.items()})
    write(made, results)


main()

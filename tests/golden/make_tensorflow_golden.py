"""Writes tensorflow.json: what TensorFlow itself computes where the specification says [TF].

Nothing here reimplements an operator: each section calls TensorFlow on small inputs and stores inputs and outputs, so
that the C++ tests can compare their own kernels with it. Tensors are {"shape": [...], "data": [flat, row-major]};
activations are NHWC, convolution weights HWIO, depthwise weights HWC1, as TensorFlow has them. Floats are written
with the digits that bring the same float32 back; integers are exact.

Usage: make_tensorflow_golden.py [OUT.json]      (versions and the exact command: README.md beside this file)
"""

import json
import math
import os
import pathlib
import sys

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # plain Eigen kernels: the operators as published
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1


def number(x):
    """An int if x is integral and small enough to be exact, else the shortest decimal that reads back as x."""
    return int(x) if float(x).is_integer() and abs(x) < 2**24 else float(np.format_float_positional(x, unique=True))


def numbers(values):
    return [number(x) for x in np.asarray(values, np.float32).ravel()]


def tensor(values):
    values = np.asarray(values)
    return {"shape": list(values.shape), "data": numbers(values)}


def rms_prop(rng):
    """Slots and variable after each of 8 steps, learning rate constant and varying (a warm-up then a fall)."""
    steps, params = 8, 3
    rates = {"constant": [0.1] * steps, "varying": [0.0, 0.66, 1.32, 1.98, 2.64, 2.0, 0.75, 0.125]}
    traces = []
    for name, lr in rates.items():
        grads = np.round(rng.normal(0, 1.5, (steps, params)), 3).astype(np.float32)
        grads[3:5, 2] = 0  # a weight that is inactive for two steps: momentum keeps moving it
        w = tf.Variable(np.array([1.0, -0.5, 0.25], np.float32))
        rate = iter(lr)
        optimizer = v1.train.RMSPropOptimizer(lambda: next(rate), decay=0.9, momentum=0.9, epsilon=1.0)
        trace = {"name": name, "decay": 0.9, "momentum": 0.9, "epsilon": 1.0, "initial": numbers(w), "steps": []}
        for step in range(steps):
            optimizer.apply_gradients([(tf.constant(grads[step]), w)])
            trace["steps"].append({"lr": lr[step], "grad": numbers(grads[step]), "w": numbers(w),
                                   "ms": numbers(optimizer.get_slot(w, "rms")),
                                   "mom": numbers(optimizer.get_slot(w, "momentum"))})
        traces.append(trace)
    return traces


def same_padding(rng):
    """SAME convolutions, 3 -> 8 channels, and depthwise ones, 8 channels, on small integers: sums are exact."""
    sizes, kernels = (7, 8, 9, 14, 15), (3, 5, 7)
    ints = lambda low, high, *shape: rng.integers(low, high + 1, shape).astype(np.float32)
    inputs = {(c, s): ints(-4, 4, 1, s, s, c) for c in (3, 8) for s in sizes}
    weights = {("conv2d", k): ints(-1, 1, k, k, 3, 8) for k in kernels}
    weights |= {("depthwise_conv2d", k): ints(-2, 2, k, k, 8, 1) for k in kernels}
    cases = []
    for (op, k), w in weights.items():
        for size in sizes:
            for stride in (1, 2):
                run = tf.nn.conv2d if op == "conv2d" else tf.nn.depthwise_conv2d
                y = run(inputs[w.shape[2], size], w, strides=[1, stride, stride, 1], padding="SAME").numpy()
                assert (y == np.round(y)).all()
                cases.append({"op": op, "size": size, "k": k, "stride": stride, "y": tensor(y)})
    return {"inputs": [{"size": s, "c": c, "x": tensor(x)} for (c, s), x in inputs.items()],
            "weights": [{"op": op, "k": k, "w": tensor(w)} for (op, k), w in weights.items()],
            "cases": cases}


def fused_batch_norm(rng):
    """Training mode: y uses the biased variance, the returned variance carries N/(N-1)."""
    cases = []
    for shape in ((2, 3, 3, 8), (4, 1, 1, 8), (3, 5, 2, 16)):
        x = np.round(rng.normal(0.5, 2, shape), 3).astype(np.float32)
        x[..., 1] = 0.75  # a constant channel: variance 0, only epsilon remains
        scale, shift = (np.round(rng.normal(m, 0.5, shape[-1]), 3).astype(np.float32) for m in (1, 0))
        y, mean, variance = v1.nn.fused_batch_norm(x, scale, shift, epsilon=1e-3, is_training=True)
        cases.append({"epsilon": 1e-3, "x": tensor(x), "scale": numbers(scale), "shift": numbers(shift),
                      "y": tensor(y), "mean": numbers(mean), "variance": numbers(variance)})
    return cases


def resize_bicubic(rng):
    """The legacy operator: no half-pixel centres, no antialiasing, a = -0.75, values not clipped."""
    cases = []
    for h, w, size in ((7, 9, (8, 8)), (28, 28, (32, 32)), (13, 17, (6, 6)), (40, 30, (16, 16)), (5, 3, (5, 3))):
        channels = 1 if h == 28 else 3
        x = rng.integers(0, 256, (1, h, w, channels)).astype(np.uint8)
        y = v1.image.resize_bicubic(x, size, align_corners=False, half_pixel_centers=False).numpy()
        cases.append({"x": tensor(x[0]), "y": tensor(y[0])})
    return cases


def summary(values):
    values = np.asarray(values, np.float64)
    return {"mean": number(np.float32(values.mean())), "std": number(np.float32(values.std())),
            "quantiles": numbers(np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)))}


def sample_distorted_bounding_box(draws=4000):
    """Moments and quantiles (5, 25, 50, 75, 95 %) of the crops drawn; `crops` leaves out the whole-image results."""
    cases = []
    for height, width in ((224, 300), (100, 400), (32, 32)):
        boxes = np.empty((draws, 4))  # y, x, h, w
        for i in range(draws):
            begin, extent, _ = v1.image.sample_distorted_bounding_box(
                [height, width, 3], bounding_boxes=[[[0.0, 0.0, 1.0, 1.0]]], seed=1234, min_object_covered=0.1,
                aspect_ratio_range=(3 / 4, 4 / 3), area_range=(0.08, 1.0), max_attempts=10,
                use_image_if_no_bounding_boxes=True)
            boxes[i] = *begin.numpy()[:2], *extent.numpy()[:2]
        assert len(np.unique(boxes, axis=0)) > draws / 20, "the generator did not advance"
        whole = (boxes[:, 2] == height) & (boxes[:, 3] == width)
        y, x, h, w = boxes[~whole].T
        cases.append({"height": height, "width": width, "draws": draws, "whole_image": int(whole.sum()),
                      "crops": {"y": summary(y), "x": summary(x), "h": summary(h), "w": summary(w),
                                "area": summary(h * w / (height * width)), "aspect": summary(w / h),
                                "max_y_plus_h": int((y + h).max()), "max_x_plus_w": int((x + w).max())}})
    return cases


def softmax_xent(rng):
    """Mean loss over the batch and its gradient, label smoothing 0.1 over all classes."""
    cases = []
    for rows, classes in ((2, 3), (4, 10), (1, 1001)):
        logits = np.round(rng.normal(0, 2, (rows, classes)), 2).astype(np.float32)
        labels = rng.integers(0, classes, rows)
        with tf.GradientTape() as tape:
            x = tf.constant(logits)
            tape.watch(x)
            loss = v1.losses.softmax_cross_entropy(tf.one_hot(labels, classes), x, label_smoothing=0.1)
        cases.append({"smoothing": 0.1, "labels": labels.tolist(), "logits": tensor(logits),
                      "loss": number(loss.numpy()), "gradient": tensor(tape.gradient(loss, x))})
    return cases


def truncated_normal(samples=1 << 22):
    """Standard deviation of a normal cut at 2 sigma: exact, and as TensorFlow's generator and initialiser show it."""
    draw = tf.random.truncated_normal([samples], seed=5).numpy().astype(np.float64)
    he = v1.variance_scaling_initializer(scale=2.0, mode="fan_in", distribution="truncated_normal", seed=5)
    weights = he([1, 1, 64, samples // 64]).numpy().astype(np.float64)
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    return {"samples": samples, "exact_std": math.sqrt(1 - 4 * density / math.erf(math.sqrt(2))),
            "std": draw.std(), "max_abs": np.abs(draw).max(),
            "he_normal_fan_in_64": {"std": weights.std(), "max_abs": np.abs(weights).max()}}


def main():
    here = pathlib.Path(__file__).parent
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here / "tensorflow.json"
    tf.random.set_seed(1)
    rng = lambda: np.random.default_rng(20)  # one per section: sections can change without moving the others
    golden = {"version": {"tensorflow": tf.__version__, "numpy": np.__version__, "python": sys.version.split()[0]},
              "rms_prop": rms_prop(rng()), "same_padding": same_padding(rng()),
              "fused_batch_norm": fused_batch_norm(rng()), "resize_bicubic": resize_bicubic(rng()),
              "sample_distorted_bounding_box": sample_distorted_bounding_box(), "softmax_xent": softmax_xent(rng()),
              "truncated_normal": truncated_normal()}
    lines = [f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in golden.items()]
    out.write_text("{" + ",\n".join(lines) + "}\n")
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()

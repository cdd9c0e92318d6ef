"""Images per second of one training step, and of one search step, in PyTorch: the peer of our own step.

    train   forward, loss, backward, optimizer step of a torchvision network on synthetic images.
            Variants: {contiguous, channels_last} x {eager, compiled} x {sgd, rmsprop}.
    search  the masked supernet (torch_supernet.py): each step draws a new random architecture, trains it on `batch`
            images (forward, backward, RMSProp), then runs it forward on val-multiplier x batch images with the updated
            weights. Variants: {contiguous, channels_last} x {eager, compiled} x {published, folded}: where batch norm's
            mask goes, on the activations as published or on scale and shift (the same function, less work).
            `compiled` compiles each layer; a graph of the whole network would be compiled anew for every architecture.

Each variant runs in a process of its own. A timing is the median over `steps` steps after warm-up; images_per_s counts
training images only. peak_rss_mb is that of the timed steps, warmup_peak_rss_mb includes compiling, rss_imported_mb is
what the libraries take before any tensor. The result is one JSON object on stdout (and in --json FILE); progress goes
to stderr. The optimizer is torch's RMSprop, whose epsilon stands outside the root: the same memory traffic as
TensorFlow's, not the same numbers.
"""

import argparse
import fnmatch
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time

LAYOUTS, MODES = ("contiguous", "channels_last"), ("eager", "compiled")
LAST_AXIS = {"train": ("sgd", "rmsprop"), "search": ("published", "folded")}
SPACES = ("proxylessnas_search", "proxylessnas_enlarged_search", "mobilenet_v3_like_search")
CLASSES = 1001
KEEP_MEMORY = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=34359738368"
TUNING_VARIABLES = ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_", "OMP_", "GOMP_", "KMP_", "THP_MEM_")


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("train", "search"):
        sub = verbs.add_parser(verb)
        if verb == "train":
            sub.add_argument("--model", default="mobilenet_v3_large", choices=("mobilenet_v2", "mobilenet_v3_large"))
        else:
            sub.add_argument("--space", default="mobilenet_v3_like_search", choices=SPACES)
            sub.add_argument("--val-multiplier", type=int, default=4, help="0: no validation pass")
        sub.add_argument("--width", type=float, default=1.0, help="multiplies all filters")
        sub.add_argument("--batch", type=int, default=16)
        sub.add_argument("--resolution", type=int, default=224)
        sub.add_argument("--steps", type=int, default=10, help="timed steps")
        sub.add_argument("--warmup", type=int, default=3, help="steps before (search: after one pass over all options)")
        sub.add_argument("--threads", type=int, default=2)
        sub.add_argument("--seed", type=int, default=0, help="of architectures, weights and images")
        sub.add_argument("--data", default="random", choices=("random",))
        sub.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
        sub.add_argument("--amp", action="store_true", help="bf16 autocast (default: fp32 throughout)")
        sub.add_argument("--compile-mode", default="default", choices=("default", "max-autotune-no-cudagraphs"))
        sub.add_argument("--malloc", default="default", choices=("default", "keep"),
                         help="keep: glibc holds on to freed memory, which saves the page faults of large activations")
        sub.add_argument("--variants", default="all", help="comma-separated names or patterns, as channels_last-*-sgd")
        sub.add_argument("--json", metavar="FILE")
        sub.add_argument("--child", metavar="VARIANT", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def chosen_variants(args):
    names = ["-".join(v) for v in itertools.product(LAYOUTS, MODES, LAST_AXIS[args.verb])]
    patterns = ["*"] if args.variants == "all" else args.variants.split(",")
    unknown = [p for p in patterns if not fnmatch.filter(names, p)]
    if unknown:
        sys.exit(f"--variants {unknown[0]} matches none of: {' '.join(names)}")
    return [name for name in names if any(fnmatch.fnmatch(name, p) for p in patterns)]


def rss_mb(field):
    """VmRSS (now) or VmHWM (highest since the start, or since reset_peak_rss) of this process."""
    with open("/proc/self/status") as status:
        return round(next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024, 1)


def reset_peak_rss():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


class Bench:
    """One variant: device, data, and the pieces that both verbs share."""

    def __init__(self, args):
        import torch
        self.torch, self.args = torch, args
        self.layout, self.mode, self.last = args.child.split("-")
        self.device = torch.device(args.device)
        torch.set_num_threads(args.threads)
        torch.manual_seed(args.seed)
        if self.mode == "compiled":
            torch._dynamo.config.recompile_limit = 1000  # one region serves every layer shape
            torch._dynamo.config.accumulated_recompile_limit = 1000
        self.rss_imported_mb = rss_mb("VmRSS")

    def compile(self, function):
        compiled = self.mode == "compiled"
        return self.torch.compile(function, dynamic=False, mode=self.args.compile_mode) if compiled else function

    def graphs(self):
        return self.torch._dynamo.utils.counters["stats"]["unique_graphs"] if self.mode == "compiled" else 0

    def place(self, x):
        torch = self.torch
        layout = torch.channels_last if self.layout == "channels_last" else torch.contiguous_format
        return x.to(device=self.device, memory_format=layout)

    def data(self, images):
        torch, side = self.torch, self.args.resolution
        labels = torch.randint(CLASSES - 1, (images,), device=self.device)
        return self.place(torch.randn(images, 3, side, side)), labels

    def autocast(self):
        return self.torch.autocast(self.args.device, self.torch.bfloat16, enabled=self.args.amp)

    def loss(self, logits, labels):
        return self.torch.nn.functional.cross_entropy(logits.float(), labels, label_smoothing=0.1)

    def rmsprop(self, parameters):
        return self.torch.optim.RMSprop(parameters, lr=0.01, alpha=0.9, eps=1.0, momentum=0.9, foreach=True)

    def synchronize(self):
        if self.args.device == "cuda":
            self.torch.cuda.synchronize()

    def time(self, step, warmup, timed):
        """Runs step(x) for each x of both lists; the median of the timed ones, and what went with it."""
        start = time.perf_counter()
        for x in warmup:
            step(x)
        self.synchronize()
        warmup_s, graphs, seconds, warmup_rss_mb = time.perf_counter() - start, self.graphs(), [], rss_mb("VmHWM")
        reset_peak_rss()
        for x in timed:
            start = time.perf_counter()
            step(x)
            self.synchronize()
            seconds.append(time.perf_counter() - start)
        median = statistics.median(seconds)
        result = {"variant": self.args.child, "images_per_s": round(self.args.batch / median, 3),
                  "median_s": round(median, 5), "min_s": round(min(seconds), 5),
                  "mean_s": round(statistics.fmean(seconds), 5), "steps_s": [round(s, 5) for s in seconds],
                  "warmup_s": round(warmup_s, 2), "rss_imported_mb": self.rss_imported_mb,
                  "warmup_peak_rss_mb": warmup_rss_mb, "peak_rss_mb": rss_mb("VmHWM")}
        if self.args.device == "cuda":
            result["peak_device_mb"] = round(self.torch.cuda.max_memory_allocated() / 2**20, 1)
        if self.mode == "compiled":
            result |= {"graphs": graphs, "graphs_compiled_while_timed": self.graphs() - graphs}
        return result


def run_train(args):
    bench = Bench(args)
    import torchvision
    build = getattr(torchvision.models, args.model)
    model = bench.place(build(num_classes=CLASSES, width_mult=args.width)).train()
    if bench.last == "sgd":
        optimizer = bench.torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=4e-5, foreach=True)
    else:
        optimizer = bench.rmsprop(model.parameters())
    images, labels = bench.data(args.batch)
    forward = bench.compile(model)

    def step(_):
        with bench.autocast():
            logits = forward(images)
        optimizer.zero_grad(set_to_none=True)
        bench.loss(logits, labels).backward()
        optimizer.step()

    return bench.time(step, range(args.warmup), range(args.steps))


def run_search(args):
    bench = Bench(args)
    import numpy
    from torch_supernet import Supernet
    torch = bench.torch
    net = bench.place(Supernet(args.space, args.width, CLASSES, bench.last == "folded", bench.compile))
    for p in net.parameters():  # as published, momentum also moves what this architecture leaves out
        p.grad = torch.zeros_like(p)
    optimizer = bench.rmsprop(net.parameters())
    images, labels = bench.data(args.batch)
    val_images, val_labels = bench.data(args.batch * max(args.val_multiplier, 1))

    def step(arch):
        with bench.autocast():
            logits, squares = net(images, arch)
        optimizer.zero_grad(set_to_none=False)
        (bench.loss(logits, labels) + 2e-5 * squares).backward()
        optimizer.step()
        if args.val_multiplier:
            with torch.no_grad(), bench.autocast():
                logits, _ = net(val_images, arch)
                (logits.argmax(1) == val_labels).float().mean().item()

    rng = numpy.random.RandomState(args.seed)
    timed = [net.sample(rng) for _ in range(args.steps)]
    warmup = net.covering() + [net.sample(rng) for _ in range(args.warmup)]
    result = bench.time(step, warmup, timed)
    result["parameters"] = sum(p.numel() for p in net.parameters())
    if bench.mode == "compiled":
        result["compile_scope"] = "each layer; the whole network would be compiled anew for every architecture"
    return result | {"indices": [":".join(map(str, arch)) for arch in timed]}


def run_in_child(argv, variant, malloc):
    """The variant's result from a process of its own, or {"variant", "error"}."""
    environment = os.environ | ({"GLIBC_TUNABLES": KEEP_MEMORY} if malloc == "keep" else {})
    done = subprocess.run([sys.executable, os.path.abspath(__file__), *argv, "--child", variant],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    reason = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no message"]
    return {"variant": variant, "error": f"exit {done.returncode}: {reason[0]}"}


def describe(args):
    """What was measured, where and with which versions."""
    import torch
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: no CUDA device here; use --device cpu")
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    if args.verb == "train":
        import torchvision
        versions["torchvision"] = torchvision.__version__
    with open("/proc/cpuinfo") as info:
        cpu = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.machine())
    device = torch.cuda.get_device_name() if args.device == "cuda" else cpu
    settings = {k: v for k, v in vars(args).items() if k not in ("json", "child", "variants")}
    tuning = {k: v for k, v in sorted(os.environ.items()) if k.startswith(TUNING_VARIABLES)}
    return {"versions": versions, "device_name": device, "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "environment": tuning, "settings": settings}


def main(argv):
    args = parse(argv)
    if args.child:
        print(json.dumps((run_train if args.verb == "train" else run_search)(args)))
        return 0
    variants, report, results = chosen_variants(args), describe(args), []
    for variant in variants:
        print(f"{args.verb} {variant} ...", end=" ", file=sys.stderr, flush=True)
        results.append(run_in_child(argv, variant, args.malloc))
        print(results[-1].get("error") or f"{results[-1]['images_per_s']} images/s", file=sys.stderr, flush=True)
    report["results"] = results
    good = [r for r in results if "error" not in r]
    if good:
        report["best"] = max(good, key=lambda r: r["images_per_s"])["variant"]
    text = json.dumps(report, indent=1)
    print(text)
    if args.json:
        with open(args.json, "w") as file:
            file.write(text + "\n")
    return 0 if len(good) == len(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

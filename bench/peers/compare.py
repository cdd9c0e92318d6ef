"""Whole steps of this engine and of PyTorch, in turns, on the same machine: images/s and their ratio.

For each work (training MobileNetV3-Large and V2, the search step of the V3-like space): this engine, every peer
variant asked for with both settings of malloc, this engine again, so that a drift of the machine shows as a difference
of our two medians. The ratio is the mean of ours over the best of all the peer's. Nothing else should run. The result
goes to --out; a variant is named "channels_last-eager-sgd malloc=keep":
  {"machine", "works": [{"work", "ours": [first, last], "peers": {...all variants...}, "best", "ratio"}]}

  bench/peers/compare.py --python VENV/bin/python --out bench/results/cpu-steps.json
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
WORKS = {
    "train mobilenet_v3_large": ("train", ["--model", "mobilenet_v3_large"]),
    "train mobilenet_v2": ("train", ["--model", "mobilenet_v2"]),
    "search mobilenet_v3_like_search": ("search", ["--space", "mobilenet_v3_like_search"]),
}


def ours(args, verb, what):
    command = [os.path.join(args.build, "step_bench"), verb, *what, "--batch", str(args.batch),
               "--steps", str(args.steps), "--threads", str(args.threads)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def peer(args, verb, what, malloc):
    variants = args.train_variants if verb == "train" else args.search_variants
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run([args.python, os.path.join(HERE, "torch_step.py"), verb, *what, "--batch", str(args.batch),
                        "--steps", str(args.steps if verb == "train" else args.search_steps), "--warmup", "2",
                        "--threads", str(args.threads), "--malloc", malloc, "--variants", variants,
                        "--json", file.name], stdout=subprocess.DEVNULL)
        with open(file.name) as written:
            report = json.load(written)
    del report["settings"]["malloc"]
    for result in report["results"]:
        result["variant"] += f" malloc={malloc}"
    return report


def peers(args, verb, what):
    default, keep = (peer(args, verb, what, malloc) for malloc in ("default", "keep"))
    return default | {"results": default["results"] + keep["results"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="of the environment with torch")
    parser.add_argument("--build", default=os.path.join(HERE, "../../build"))
    parser.add_argument("--out", required=True)
    parser.add_argument("--works", nargs="*", choices=WORKS, default=list(WORKS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--search-steps", type=int, default=8, help="of the peer, which is slower")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--train-variants", default="*")
    parser.add_argument("--search-variants", default="*")
    args = parser.parse_args()
    report = {"works": []}
    for work in args.works:
        verb, what = WORKS[work]
        first = ours(args, verb, what)
        other = peers(args, verb, what)
        last = ours(args, verb, what)
        report["machine"] = {k: other[k] for k in ("device_name", "cpu_capability", "versions", "environment")}
        best = max((r for r in other["results"] if "error" not in r), key=lambda r: r["images_per_s"])
        mean = (first["images_per_s"] + last["images_per_s"]) / 2
        report["works"].append({"work": work, "ours": [first, last], "peers": other["results"],
                                "peer_settings": other["settings"], "best": best["variant"],
                                "ratio": round(mean / best["images_per_s"], 3)})
        print(f"{work}: {mean:.1f} images/s, {report['works'][-1]['ratio']} times {best['variant']}"
              f" ({best['images_per_s']:.1f})", file=sys.stderr)
        with open(args.out, "w") as file:
            file.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

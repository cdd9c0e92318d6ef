"""Is what a search finds better than chance? The found architecture and random ones of equal cost, trained alone.

Trains RUN/arch.json and N architectures drawn uniformly from the same space, accepted within 3 % of the found cost,
with the same budget and seeds, then scores each on the test data. Writes every number to --out, whoever wins, and what
the search did: its settings, time, cost against target. Started again, it goes on where it was.

  bench/found_vs_random.py --run runs/a --space S --data SPEC --test SPEC --work DIR --out FILE \
      [--randoms 5 --seeds 3 --epochs 3 --common "--small-images --resolution 32 --width 0.5"]
"""
import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def tunas(args, *words):
    done = subprocess.run([os.path.join(args.build, "tunas"), *words], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"tunas {' '.join(words)}: exit {done.returncode}")
    return done.stdout


def json_lines(run, name):
    with open(os.path.join(run, name)) as file:
        return [json.loads(line) for line in file]


def search_summary(run):
    steps, timing = json_lines(run, "metrics.jsonl"), json_lines(run, "timing.jsonl")
    last = steps[-max(1, len(steps) // 10):]
    with open(os.path.join(run, "config.json")) as file:
        settings = {key: entry["value"] for key, entry in json.load(file).items()}
    with open(os.path.join(run, "arch.json")) as file:
        found = json.load(file)
    return {"settings": settings, "steps": len(steps), "seconds": round(timing[-1]["seconds"]),
            "target": found["target"], "found_cost": found["cost"], "indices": found["indices"],
            "mean_cost_last_tenth": statistics.mean(step["cost"] for step in last),
            "entropy_first": steps[0]["entropy"], "entropy_last": steps[-1]["entropy"]}


def about(arch):
    with open(arch) as file:
        network = json.load(file)
    return {key: network[key] for key in ("indices", "macs", "params")}


def train_and_score(args, name, arch, seed):
    out = os.path.join(args.work, f"{name}-{seed}")
    weights = os.path.join(out, "weights.safetensors")
    if not os.path.exists(weights):
        tunas(args, "train", "--arch", arch, "--data", args.data, "--out", out, "--overwrite", "--epochs",
              str(args.epochs), "--seed", str(seed), "--val-data", args.test, *shlex.split(args.train))
    score = json.loads(tunas(args, "eval", "--arch", os.path.join(out, "arch.json"), "--weights", weights, "--data",
                             args.test, "--json"))
    print(f"{name} seed {seed}: top-1 {score['top1']:.4f}", file=sys.stderr, flush=True)
    return score["top1"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for required in ("--run", "--space", "--data", "--test", "--work", "--out"):
        parser.add_argument(required, required=True)
    parser.add_argument("--build", default=os.path.join(HERE, "../build"))
    parser.add_argument("--randoms", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--common", default="", help="options of the space: --small-images --width ...")
    parser.add_argument("--train", default="", help="options of the training")
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    with open(os.path.join(args.run, "arch.json")) as file:
        found = json.load(file)
    cost = found["macs"]
    common = shlex.split(args.common)
    drawn = tunas(args, "space", "sample", args.space, "-n", str(args.randoms), "--seed", "1", "--cost", "macs",
                  "--min-cost", str(cost * 0.97), "--max-cost", str(cost * 1.03), *common).split()
    candidates = {"found": os.path.join(args.run, "arch.json")}
    for i, indices in enumerate(drawn):
        candidates[f"random{i}"] = os.path.join(args.work, f"random{i}.json")
        text = tunas(args, "arch", "show", "--space", args.space, "--indices", indices, "--json", *common)
        with open(candidates[f"random{i}"], "w") as file:
            file.write(text)
    shown = {key: getattr(args, key) for key in ("space", "data", "test", "epochs", "common", "train")}
    report = {"search": search_summary(args.run), "settings": shown, "networks": {}}
    for name, arch in candidates.items():
        top1 = [train_and_score(args, name, arch, seed) for seed in range(args.seeds)]
        report["networks"][name] = {**about(arch), "top1": top1,
                                    "mean": statistics.mean(top1), "stdev": statistics.stdev(top1)}
        with open(args.out, "w") as file:
            file.write(json.dumps(report, indent=1) + "\n")
    means = [n["mean"] for name, n in report["networks"].items() if name != "found"]
    report["random_mean"], report["random_spread"] = statistics.mean(means), statistics.stdev(means)
    with open(args.out, "w") as file:
        file.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

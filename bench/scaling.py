"""Steps of a search and of a training on 1, 2 and 4 ranks of this machine, one thread each, and the model beside them.

Every configuration of R ranks is run in turn with `--deterministic on` and `off` and with R lone runs beside each other
that have a rank's number of shards each ("company"): what R ranks take longer than these is the cost of being one run.
Steps are compared within a round, in which all runs see the same load; medians over steps and rounds.

  bench/scaling.py --tunas build/tunas --sums-bench build/sums_bench --out bench/results/cpu-scaling.json

The model (bench/step_model.py) is given what the company and sums alone (sums_bench) took, and where `tunas profile`
sees the time of backward; it says what 2 and 4 ranks should take, and with the numbers of GPU below what up to 512 GPUs
should. It is fitted to nothing else.
"""
import argparse
import json
import math
import os
import statistics
import subprocess

import step_model
import timed_runs

# Of an H100 SXM node. "source" says where each comes from; nothing here was measured on several GPUs.
GPU = {
    "near": step_model.Link(0.75 * 450e9, 10e-6),
    "far": step_model.Link(0.8 * 50e9, 20e-6),
    "node": 8, "adds": 0.3 * 3014e9, "steals": 0.1,
    "source": {
        "near": "NVLink 4: 450 GB/s each way (NVIDIA H100 data sheet, 900 GB/s both ways); 75 % of it, 10 us: assumed",
        "far": "one 400 Gb/s NIC a GPU (NVIDIA ConnectX-7 data sheet); 80 % of it, 20 us a message: assumed",
        "adds": "a third of 3014 GB/s (copies, h100-kernels.json): an addition moves three times its bytes",
        "steals": "assumed: a copy engine or a few of 132 multiprocessors, and their share of the memory bus",
    },
}
# Bytes that a GPU's kernels move over their seconds: the training step predicted in bench/results/README.md.
GPU_BYTES_A_SECOND = 73.3e6 * 128 / 10.4e-3
# (GPUs, shards of 128 images): the published 32 shards occupy 32 GPUs at most. More of them are for larger batches.
GPU_SHAPES = [(1, 32), (8, 32), (32, 32), (8, 8), (64, 64), (512, 512)]
GPU_OTHER = 0.5e-3  # of a step, assumed: the update's launch, the host between steps

WORKS = {
    "train mobilenet_v3_large": {
        "call": ["train", "--arch", "mobilenet_v3_large", "--recipe", "tunas-90"], "batch": 16, "resolution": 224,
        "profile": ["--arch", "mobilenet_v3_large"]},
    "search mobilenet_v3_like_search": {
        "call": ["search", "--space", "mobilenet_v3_like_search", "--recipe", "published", "--op-warmup", "0",
                 "--filter-warmup", "0"], "batch": 8, "resolution": 224,
        "profile": ["--space", "mobilenet_v3_like_search"]},
}
# (ranks, shards in all): a rank's shards stay 2 (weak scaling) or all are 4 (strong).
SHAPES = [(1, 2), (1, 4), (2, 4), (4, 4)]


class Bench:
    def __init__(self, args):
        self.args = args

    def call(self, work, ranks, shards, extra=()):
        w = WORKS[work]
        words = [self.args.tunas] + (["launch", "-n", str(ranks), "--"] if ranks > 1 else [])
        return words + w["call"] + [
            "--data", "synthetic:64x64x300", "--classes", "1001", "--resolution", str(w["resolution"]),
            "--shards", str(shards), "--batch-size", str(shards * w["batch"]), "--threads", "1", "--workers", "1",
            *extra]

    def parameters(self, work):
        """Layers and their floats, from the first checkpoint of a run."""
        with timed_runs.timed([self.call(work, 1, 1, ["--checkpoint-every", "1"])], 3) as folders:
            checkpoints = os.path.join(folders[0], "checkpoints")
            first = min(name for name in os.listdir(checkpoints) if name[-1].isdigit())
            return timed_runs.parameters(os.path.join(checkpoints, first, "weights.safetensors"))

    def measure(self, work, ranks, shards, how):
        """How: one run of these ranks, deterministic "on" or "off", or "company"."""
        if how == "company":
            commands = [self.call(work, 1, shards // ranks, ["--seed", str(r)]) for r in range(ranks)]
        else:
            commands = [self.call(work, ranks, shards, ["--deterministic", how] if ranks > 1 else [])]
        before = timed_runs.load()
        with timed_runs.timed(commands, self.args.warmup + self.args.steps) as folders:
            steps = [timed_runs.steps_of(folder, self.args.warmup, self.args.steps) for folder in folders]
        return {"load_before": before, "seconds": [[s["step_seconds"] for s in one] for one in steps],
                "reduce": [s.get("reduce_seconds", 0) for s in steps[0]],
                "waited": [s.get("reduce_wait_seconds", 0) for s in steps[0]],
                "stalled": [s["stall_seconds"] for s in steps[0]]}

    def round(self, work, rounds):
        """One run of everything, in the opposite order every other time, appended to `rounds`."""
        keys = [(ranks, shards, how) for ranks, shards in SHAPES
                for how in (("company", "on", "off") if ranks > 1 else ("on",))]
        found = {key: self.measure(work, *key) for key in (keys if len(rounds) % 2 == 0 else reversed(keys))}
        rounds.append({key: found[key] for key in keys})

    def pairs(self, work):
        """2 ranks, deterministic over fast: ratio of the median steps of one run each, which comes first changing."""
        ratios, loads = [], []
        for pair in range(self.args.pairs):
            found = {how: self.measure(work, 2, 4, how) for how in (("on", "off") if pair % 2 == 0 else ("off", "on"))}
            ratios.append(ratio([found], "on", "off")["median"])
            loads.append(found["on"]["load_before"])
        return {"median": round(statistics.median(ratios), 4), "pairs": ratios, "load_before": loads}


def joined(rounds, key, what):
    return [value for found in rounds for value in found[key][what]]


def ratio(rounds, key, other):
    """Median over rounds of the ratio of median steps, and its extremes."""
    def middle(found, key):
        return statistics.median(s for one in found[key]["seconds"] for s in one)
    ratios = [middle(found, key) / middle(found, other) for found in rounds]
    return {"median": round(statistics.median(ratios), 4), "least": round(min(ratios), 4),
            "most": round(max(ratios), 4)}


def same_steps(rounds, key, other):
    """Of two runs that compute the same: the median over steps and rounds of step by step ratios."""
    ratios = [a / b for found in rounds for a, b in zip(found[key]["seconds"][0], found[other]["seconds"][0])]
    return round(statistics.median(ratios), 4)


def summary(rounds):
    rows = []
    for key in rounds[0]:
        ranks, shards, how = key
        seconds = [s for one in joined(rounds, key, "seconds") for s in one]
        row = {"ranks": ranks, "shards": shards,
               "how": "alone" if ranks == 1 else how if how == "company" else "deterministic " + how,
               "step_seconds": round(statistics.median(seconds), 4), "least": round(min(seconds), 4),
               "most": round(max(seconds), 4)}
        if ranks > 1 and how != "company":
            reduce, waited = joined(rounds, key, "reduce"), joined(rounds, key, "waited")
            row["reduce_seconds"] = round(statistics.median(reduce), 4)
            row["reduce_shown"] = round(statistics.median(waited), 4)
            row["reduce_hidden"] = round(statistics.median(r - w for r, w in zip(reduce, waited)), 4)
            row["over_company"] = ratio(rounds, key, (ranks, shards, "company"))
            if how == "on":
                row["over_fast"] = ratio(rounds, key, (ranks, shards, "off"))
                row["over_fast_step_by_step"] = same_steps(rounds, key, (ranks, shards, "off"))
        row["stall_seconds"] = round(statistics.median(joined(rounds, key, "stalled")), 4)
        row["load_before"] = [found[key]["load_before"] for found in rounds]
        rows.append(row)
    return rows


def profile(args, work, batch, seed=0):
    w = WORKS[work]
    words = [args.tunas, "profile", *w["profile"], "--batch-size", str(batch), "--resolution", str(w["resolution"]),
             "--threads", "1", "--device", "cpu", "--steps", "2", "--seed", str(seed), "--json"]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)


def passes(report, what):
    """Seconds or bytes by pass, and the shares of backward by layer."""
    total, backward = {}, {}
    for call in report["by_call"]:
        total[call["pass"]] = total.get(call["pass"], 0) + call[what]
        if call["pass"] == "backward":
            backward[call["layer"]] = backward.get(call["layer"], 0) + call[what]
    return total, {layer: value / total["backward"] for layer, value in backward.items()}


def layers_of(parameters, shares):
    return [(floats, shares.get(layer, 0.0)) for layer, floats in parameters]


def sums_alone(args, ranks, sums):
    words = [args.sums_bench, "--ranks", str(ranks), "--sums", sums]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)


def fitted(measured):
    """Link and additions in one bandwidth, from the largest sum, and a message's latency from the shortest."""
    ranks, largest = measured["ranks"], measured["seconds"][-1]
    messages = 2 * math.log2(ranks) if measured["sums"] == "fixed" else 2 * (ranks - 1)
    latency = measured["seconds"][0]["seconds"] / messages
    moving = largest["seconds"] - messages * latency
    return step_model.Link(2 * (ranks - 1) / ranks * 4 * largest["floats"] / moving, latency)


def on_this_machine(args, work, rounds, parameters):
    """Predicted and measured seconds of the configurations of several ranks."""
    report = profile(args, work, WORKS[work]["batch"])
    seconds, shares = passes(report, "seconds")
    rows = []
    for ranks, shards in SHAPES:
        if ranks == 1:
            continue
        per_rank = shards // ranks
        # A rank's own speed is that of its company: the cores and the memory bus are shared with it.
        company = [s for one in joined(rounds, (ranks, shards, "company"), "seconds") for s in one]
        slower = statistics.median(company) / per_rank / sum(seconds.values())
        other = slower * seconds["update"]
        # All shards of a rank as one: they were measured so.
        step = step_model.Step([s - other for s in company], slower * seconds["backward"], other,
                               layers_of(parameters, shares))
        for how, sums in (("on", "fixed"), ("off", "ring")):
            link = fitted(args.sums[ranks, how])
            machine = step_model.Machine(link, link, ranks, math.inf, 1.0)
            predicted = step_model.predict(step, machine, ranks, 1, sums)
            predicted["shards_per_rank"] = per_rank
            measured = statistics.median(s for one in joined(rounds, (ranks, shards, how), "seconds") for s in one)
            rows.append({"deterministic": how, **rounded(predicted), "measured_seconds": round(measured, 4),
                         "predicted_over_measured": round(predicted["seconds"] / measured, 3)})
    return {"inputs": {"profile_seconds_of_a_shard": rounded(seconds),
                       "buckets": [[f, round(d, 3)] for f, d in step_model.buckets(layers_of(parameters, shares))],
                       "shard_seconds": "those of the company", "steals": 1.0, "link": "sums alone, below"},
            "steps": rows}


def on_gpus(args, work, parameters):
    """Of 128 images a shard, in bf16: half the bytes that the CPU's kernels declare. A search's shards move as many as
    those of random architectures; the one at the mean stands for them beside the sums."""
    images = 4
    seconds_a_byte = 128 / images / 2 / GPU_BYTES_A_SECOND
    profiles = [passes(profile(args, work, images, seed), "bytes") for seed in range(16 if "search" in work else 1)]
    update = statistics.mean(moved.pop("update") for moved, _ in profiles) / (0.9 * 3014e9)
    compute = {p: seconds_a_byte * statistics.mean(moved[p] for moved, _ in profiles) for p in profiles[0][0]}
    whole = [seconds_a_byte * sum(moved.values()) for moved, _ in profiles]
    mean = statistics.mean(whole)
    shares = profiles[min(range(len(whole)), key=lambda i: abs(whole[i] - mean))][1]
    step = step_model.Step(whole, compute["backward"], update + GPU_OTHER, layers_of(parameters, shares))
    machine = step_model.Machine(GPU["near"], GPU["far"], GPU["node"], GPU["adds"], GPU["steals"])
    rows = []
    for ranks, shards in GPU_SHAPES:
        predicted = step_model.predict(step, machine, ranks, shards // ranks, "fixed")
        rows.append({"gpus": ranks, "shards": shards, "images_a_step": 128 * shards, **rounded(predicted)})
    return {"inputs": {"gradient_bytes": 4 * sum(floats for _, floats in parameters),
                       "shard_seconds_by_pass": rounded(compute), "update_and_host_seconds": round(step.other, 6),
                       "spread_of_shards": round(statistics.pstdev(whole) / mean, 4),
                       "buckets": [[f, round(d, 3)] for f, d in step_model.buckets(step.layers)]},
            "steps": rows}


def rounded(values):
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in values.items()}


def report(args, rounds, parameters, gpus, pairs):
    result = {"cores": os.cpu_count(), "rounds": len(rounds[next(iter(WORKS))]), "steps": args.steps,
              "threads_a_rank": 1, "sums_alone": list(args.sums.values()), "works": []}
    for work in WORKS:
        w = WORKS[work]
        result["works"].append({
            "work": work, "images_a_shard": w["batch"], "resolution": w["resolution"],
            "deterministic_over_fast_on_2_ranks": pairs[work], "measured": summary(rounds[work]),
            "model_here": on_this_machine(args, work, rounds[work], parameters[work]),
            "model_gpus": gpus[work]})
    result["gpu_inputs"] = {
        **{name: vars(GPU[name]) for name in ("near", "far")},
        **{name: GPU[name] for name in ("node", "adds", "steals", "source")},
        "bytes_a_second": GPU_BYTES_A_SECOND, "other_seconds": GPU_OTHER}
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tunas", required=True)
    parser.add_argument("--sums-bench", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()

    bench = Bench(args)
    rounds, parameters = {work: [] for work in WORKS}, {work: bench.parameters(work) for work in WORKS}
    args.sums = {(ranks, how): sums_alone(args, ranks, sums)
                 for ranks in (2, 4) for how, sums in (("on", "fixed"), ("off", "fast"))}
    gpus = {work: on_gpus(args, work, parameters[work]) for work in WORKS}
    pairs = {work: bench.pairs(work) for work in WORKS}
    for _ in range(args.rounds):
        for work in WORKS:
            bench.round(work, rounds[work])
        timed_runs.write(args.out, report(args, rounds, parameters, gpus, pairs))  # what there is so far


if __name__ == "__main__":
    main()

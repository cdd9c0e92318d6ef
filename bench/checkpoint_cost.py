"""What checkpoints cost the steps of a run: the same run with many and with none, in pairs, in turns.

In the steps' own thread a checkpoint takes the snapshot (checkpoint_seconds of timing.jsonl); a thread beside them
writes it (checkpoint_write_seconds), which costs the steps whatever cores, memory bus and disk they share. The whole is
what the steps of the pair's two runs differ by, a checkpoint. The aim is a hundredth of the time between two checkpoints
at the default --checkpoint-every; "met_above_step_seconds" is the step from which on it is met.

  bench/checkpoint_cost.py --tunas build/tunas --out bench/results/cpu-checkpoint.json
"""
import argparse
import os
import statistics

import timed_runs

DEFAULT_EVERY = 500  # tools/resume.cpp
AIM = 0.01
NEVER = 1_000_000
WORKS = {
    "train mobilenet_v3_large, 224 px, ema": ["train", "--arch", "mobilenet_v3_large", "--recipe", "tunas-90", "--ema",
                                              "0.9999", "--batch-size", "16", "--shards", "1"],
    "search mobilenet_v3_like_search, 224 px": ["search", "--space", "mobilenet_v3_like_search", "--recipe",
                                                "published", "--op-warmup", "0", "--filter-warmup", "0",
                                                "--batch-size", "16", "--shards", "1"],
}


def run(args, work, every):
    words = [args.tunas, *WORKS[work], "--data", "synthetic:64x64x300", "--classes", "1001", "--workers", "1",
             "--checkpoint-every", str(every)]
    with timed_runs.timed([words], args.warmup + args.steps) as folders:
        root = os.path.join(folders[0], "checkpoints")
        whole = [os.path.join(root, name) for name in os.listdir(root) if name[-1].isdigit()]
        size = sum(entry.stat().st_size for entry in os.scandir(whole[0])) if whole else 0
        return timed_runs.steps_of(folders[0], args.warmup, args.steps), size


def pair(args, work, turn):
    """Two runs of the same steps; which comes first changes from pair to pair."""
    order, found, size = [args.every, NEVER], {}, 0
    for every in order if turn % 2 == 0 else reversed(order):
        found[every], bytes_ = run(args, work, every)
        size = max(size, bytes_)
    with_, without = (found[every] for every in order)
    own = [step["checkpoint_seconds"] for step in with_ if "checkpoint_seconds" in step]
    beside = [step["checkpoint_write_seconds"] for step in with_ if "checkpoint_write_seconds" in step]
    middle = statistics.median(step["step_seconds"] for step in without)
    differences = [a["step_seconds"] - b["step_seconds"] for a, b in zip(with_, without)]
    return {"bytes": size, "own": own, "beside": beside, "step": middle, "whole": sum(differences) / len(own),
            "load": timed_runs.load()}


def summary(args, work, pairs):
    step = statistics.median(p["step"] for p in pairs)
    own = statistics.median(s for p in pairs for s in p["own"])
    whole = [p["whole"] for p in pairs]
    cost = max(own, statistics.median(whole))
    return {"work": work, "bytes": pairs[0]["bytes"], "step_seconds": round(step, 4), "snapshot_seconds": round(own, 4),
            "write_seconds": round(statistics.median(s for p in pairs for s in p["beside"]), 4),
            "whole_seconds_a_checkpoint": [round(w, 4) for w in whole],
            "percent_of_steps_at_default": round(100 * cost / (DEFAULT_EVERY * step), 3),
            "of_them_snapshot": round(100 * own / (DEFAULT_EVERY * step), 3),
            "met_above_step_seconds": round(cost / (DEFAULT_EVERY * AIM), 4),
            "load_after": [p["load"] for p in pairs]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tunas", required=True)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()

    pairs = {work: [] for work in WORKS}
    for turn in range(args.pairs):
        for work in WORKS:
            pairs[work].append(pair(args, work, turn))
        timed_runs.write(args.out, {
            "cores": os.cpu_count(), "default_every": DEFAULT_EVERY, "measured_every": args.every, "steps": args.steps,
            "works": [summary(args, work, pairs[work]) for work in WORKS]})  # what there is so far


if __name__ == "__main__":
    main()

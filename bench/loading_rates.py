"""Training crops a second that 1, 2, ... workers decode: from JPEGs and from packs of the same images, in turns.

`tunas data pack` makes the packs (encoded, and decoded to pixels), `tunas data bench` measures; medians over rounds.
"linear" is the rate over as many times that of one worker; "jpeg_ratio" the rate over that of the JPEGs.

  bench/loading_rates.py --tunas build/tunas --data 'tar:imagenet_sample-*.tar' --out bench/results/cpu-loading-rates.json
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tunas", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", default="3")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        sources = {"jpeg": args.data}
        for payload in ("encoded", "decoded"):
            path = os.path.join(folder, payload + ".pack")
            subprocess.run([args.tunas, "data", "pack", args.data, "--out", path, "--payload", payload], check=True,
                           stdout=subprocess.DEVNULL)
            sources[payload + " pack"] = "pack:" + path
        rates = {}
        for _ in range(args.rounds):
            for name, spec in sources.items():
                words = [args.tunas, "data", "bench", spec, "--seconds", args.seconds, "--json"]
                measured = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
                for rate in measured["rates"]:
                    rates.setdefault((name, rate["workers"]), []).append(rate["images_per_second"])

    medians = {key: statistics.median(values) for key, values in rates.items()}
    rows = [{"images": name, "workers": workers, "images_per_second": round(median, 1),
             "least": round(min(rates[name, workers]), 1), "most": round(max(rates[name, workers]), 1),
             "linear": round(median / medians[name, 1] / workers, 3),
             "jpeg_ratio": round(median / medians["jpeg", workers], 2)}
            for (name, workers), median in medians.items()]
    with open(args.out, "w", encoding="utf-8") as file:
        json.dump({"images": measured["images"], "cores": os.cpu_count(), "rounds": args.rounds, "rates": rows}, file,
                  indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()

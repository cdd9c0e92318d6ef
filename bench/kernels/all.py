"""All kernel benches of this folder, one after the other, in one file: milliseconds, GB/s and GFLOP/s of the declared
cost, percent of the bandwidth of a copy of as many bytes (1 to 128 MB), measured before it. Nothing else should run.

  bench/kernels/all.py --out bench/results/cpu-kernels.json [--build build]
"""
import argparse
import glob
import json
import os
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def run(program):
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run([program, f"--benchmark_out={file.name}", "--benchmark_out_format=json"], check=True)
        report = json.load(file)
    context = {key: report["context"][key] for key in ("isa", "threads")}
    rows = [{"kernel": b["name"].removesuffix("/real_time"), "ms": round(b["real_time"], 4),
             **{key: round(b[key], 1) for key in ("GB/s", "GFLOP/s", "%copy") if key in b}}
            for b in report["benchmarks"]]
    return {**context, "results": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.path.join(HERE, "../../build"))
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    names = sorted(os.path.basename(path).removesuffix(".cpp") for path in glob.glob(os.path.join(HERE, "*_bench.cpp")))
    report = {name: run(os.path.join(args.build, name)) for name in names}
    with open("/proc/cpuinfo") as file:
        cpu = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].split("\n"))
    report = {"machine": {key: cpu[field].strip() for key, field in
                          (("model", "model name\t"), ("family", "cpu family\t"))}, **report}
    with open(args.out, "w") as file:
        file.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

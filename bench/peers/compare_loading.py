"""Training images of photos here and in other programs, in turns, on the same machine: processor time per image.

A round runs every contender once (crop_bench for ours and bare libjpeg-turbo, load_photos.py for the peers), each in
one thread; all cut the crops that crop_bench drew, but FFCV, which draws its own. Processor time, not elapsed time,
is compared: other work on the machine disturbs it less. "ratio" is theirs over our loader's, bare's over our decoder's,
round by round, its median; above 1 we are faster.

  bench/peers/compare_loading.py --build build --photos imagenet_sample-*.tar --python VENV/bin/python \\
      [--ffcv-python VENV2/bin/python] --out bench/results/cpu-loading.json
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def last_line(command):
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return json.loads(out.splitlines()[-1])


def contenders(args, crops):
    def ours(what):
        return [os.path.join(args.build, "crop_bench"), "tar:{" + ",".join(args.photos) + "}", what]

    def peer(python, *arguments):
        return [python, os.path.join(HERE, "load_photos.py"), arguments[0], *args.photos, *arguments[1:]]

    found = {"bare libjpeg-turbo, decoding": ours("bare"), "ours, decoding": ours("decode"),
             "ours, images": ours("images"), "ours, loader": ours("loader"),
             "Pillow, decoding": peer(args.python, "decode", "--crops", crops),
             "Pillow and torchvision": peer(args.python, "pillow", "--crops", crops),
             "DALI": peer(args.python, "dali", "--crops", crops),
             "DALI, smooth upsampling": peer(args.python, "dali", "--crops", crops, "--smooth")}
    if args.ffcv_python:
        found["FFCV"] = peer(args.ffcv_python, "ffcv")
    return found


def machine():
    with open("/proc/cpuinfo") as file:
        lines = [line.split(":", 1) for line in file if ":" in line]
    facts = {key.strip(): value.strip() for key, value in lines}
    return {"model": facts.get("model name"), "family": facts.get("cpu family"), "cores": os.cpu_count(),
            "python": platform.python_version()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.path.join(HERE, "../../build"))
    parser.add_argument("--photos", nargs="+", required=True)
    parser.add_argument("--python", required=True, help="of the environment with Pillow, torchvision and DALI")
    parser.add_argument("--ffcv-python", help="of the environment with FFCV")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        crops = os.path.join(folder, "crops.json")
        names = contenders(args, crops)
        last_line([*names["bare libjpeg-turbo, decoding"], "--crops", crops])
        rounds = [{name: last_line(command) for name, command in names.items()} for _ in range(args.rounds)]
    results = []
    for name in names:
        times = [r[name]["cpu_us"] for r in rounds]
        base = "ours, decoding" if "decoding" in name else "ours, loader"
        result = {"contender": name, "cpu_us": statistics.median(times), "least": min(times), "most": max(times),
                  "against": base, "ratio": round(statistics.median(r[name]["cpu_us"] / r[base]["cpu_us"]
                                                                     for r in rounds), 3)}
        if "versions" in rounds[0][name]:
            result["versions"] = rounds[0][name]["versions"]
        results.append(result)
        print(f"{name:32} {result['cpu_us']:8.1f} us  {result['ratio']:6.3f} x {base}")
    report = {"machine": machine(), "images": rounds[0]["ours, loader"]["images"], "rounds": args.rounds,
              "per image": results}
    with open(args.out, "w") as file:
        file.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

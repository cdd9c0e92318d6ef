"""Runs of `tunas` for the benches: started alone or several beside each other, read from their timing.jsonl."""
import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time


def load():
    """Of the machine, over the last minute: what else was at work."""
    with open("/proc/loadavg", encoding="utf-8") as file:
        return float(file.read().split()[0])


def lines(path):
    """Whole ones of a JSON-lines file, which may not be there yet."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


@contextlib.contextmanager
def timed(commands, steps):
    """Runs all `commands` at the same time, each with an --out of its own, until every one has done `steps` steps, and
    hands out these folders. The runs are killed then, so that none is alone at the end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: no run outlives this program
    with tempfile.TemporaryDirectory() as scratch:
        folders = [os.path.join(scratch, str(i)) for i in range(len(commands))]
        errors = [open(folder + ".err", "w+", encoding="utf-8") for folder in folders]
        started = [subprocess.Popen(words + ["--steps", "100000", "--out", folder], stdout=subprocess.DEVNULL,
                                    stderr=error)
                   for words, folder, error in zip(commands, folders, errors)]
        try:
            while any(len(lines(os.path.join(folder, "timing.jsonl"))) < steps for folder in folders):
                time.sleep(0.1)
                for one, words, error in zip(started, commands, errors):
                    if one.poll() is not None:
                        error.seek(0)
                        raise SystemExit(" ".join(words) + "\n" + error.read())
        finally:
            for one in started:
                one.kill()
                one.wait()
            for error in errors:
                error.close()
        yield folders


def steps_of(folder, warmup, steps):
    """The lines of timing.jsonl of `steps` steps after the first `warmup`."""
    return lines(os.path.join(folder, "timing.jsonl"))[warmup:warmup + steps]


def write(path, result):
    """Complete or not at all."""
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    os.replace(path + ".part", path)


def parameters(path):
    """(layer, floats) of a weights file, in the network's order; a layer is what `tunas profile` calls one."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    header.pop("__metadata__", None)
    found = {}
    for name, tensor in sorted(header.items(), key=lambda item: item[1]["data_offsets"][0]):
        parts = name.split("/")
        layer = "/".join(parts[:4]) if parts[0] == "blocks" else parts[0]
        begin, end = tensor["data_offsets"]
        found[layer] = found.get(layer, 0) + (end - begin) // 4
    return list(found.items())

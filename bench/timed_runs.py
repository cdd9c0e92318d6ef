"""Runs of `tunas` for the benches: started alone or several beside each other, read from their timing.jsonl."""
import contextlib
import json
import os
import statistics
import struct
import subprocess
import tempfile


def load():
    """Of the machine, over the last minute: what else was at work."""
    with open("/proc/loadavg", encoding="utf-8") as file:
        return float(file.read().split()[0])


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@contextlib.contextmanager
def timed(commands, environment=None):
    """Runs all `commands` at the same time, each with an --out of its own, and hands out those folders."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = [os.path.join(scratch, str(i)) for i in range(len(commands))]
        started = [subprocess.Popen(words + ["--out", folder], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                    env={**os.environ, **(environment or {})})
                   for words, folder in zip(commands, folders)]
        said = [one.communicate()[1].decode() for one in started]
        for one, words, text in zip(started, commands, said):
            if one.returncode != 0:
                raise SystemExit(" ".join(words) + "\n" + text)
        yield folders


def steps_of(folder, warmup):
    """The lines of timing.jsonl after the first `warmup`."""
    return lines(os.path.join(folder, "timing.jsonl"))[warmup:]


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


def median(values):
    return statistics.median(values)

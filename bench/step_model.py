"""The time of a step against ranks, bytes and bandwidth: a model on paper, for CPUs and GPUs.

A rank computes its shards one after the other; the sum over ranks runs in buckets beside backward of the last one:

  step      = late + shown + other
  late      = expected maximum over ranks of the time of a rank's shards (they run different architectures)
  shown     = what of the sums ends after backward, and `steals` of the rest: what a hidden sum takes of computation
  other     = update, gathers of outcomes, the host's own

The maximum is over draws from the times it is given: with more ranks than these it is their largest, which is too small.

A bucket starts when backward has passed its first layer and the bucket before is done. Its sum moves 2*(R-1)/R of its
bytes out of each rank and adds (R-1)/R of them, in so many messages one after the other:

  fixed     2*log2(R): halving at distances 1, 2, 4, ... and doubling back; the near ranks share a node, so a NIC sees
            what is left, 2*(1/n - 1/R) of the bytes for n ranks a node
  ring      2*(R-1), spread over the NICs of a node as well: the same bytes
  tree      as the ring, in 2*log2(R) messages: what NCCL has for sums too short for a ring; the faster one is taken
"""
import math
import random
from dataclasses import dataclass


@dataclass
class Link:
    bandwidth: float  # bytes a second out of each rank
    latency: float    # seconds a message


@dataclass
class Machine:
    near: Link     # between the ranks of a node
    far: Link      # between nodes
    node: int      # ranks a node
    adds: float    # gradient bytes a second that a rank adds to others
    steals: float  # of a hidden sum's time, what computation loses: 1 where every core computes


@dataclass
class Step:
    """Of one rank alone. Seconds; `shards` are whole ones as they were measured, validation included."""
    shards: list
    backward: float  # of one shard
    other: float     # of a step: the update and what is not computing
    layers: list     # (floats, share of backward), in the network's order

    def mean(self):
        return sum(self.shards) / len(self.shards)


def buckets(layers, least=1 << 20):
    """(floats, share of backward that is done when its sum may start), as engine/gradients.h cuts them."""
    found, open_floats, done = [], 0, 0.0
    for floats, share in reversed(layers):
        done += share
        open_floats += floats
        if open_floats >= least:
            found.append((open_floats, done))
            open_floats = 0
    if open_floats > 0:
        found.append((open_floats, 1.0))
    return found


def sum_seconds(floats, ranks, machine, sums):
    """Of one bucket, nothing else running."""
    if ranks == 1:
        return 0.0
    size = 4 * floats
    node = min(machine.node, ranks)
    seconds = (ranks - 1) / ranks * size / machine.adds + 2 * (node - 1) / node * size / machine.near.bandwidth
    if ranks > node:
        seconds += 2 * (1 / node - 1 / ranks) * size / machine.far.bandwidth
    tree = 2 * (math.log2(node) * machine.near.latency + math.log2(ranks / node) * machine.far.latency)
    ring = 2 * ((ranks - ranks / node) * machine.near.latency + ranks / node * machine.far.latency)
    if ranks == node:
        ring = 2 * (ranks - 1) * machine.near.latency
    return seconds + {"fixed": tree, "ring": ring, "fast": min(ring, tree)}[sums]


def expected_late(shards, per_rank, ranks, draws=4000):
    """Mean, over draws from the measured shard times, of the slowest rank's sum of `per_rank` of them."""
    numbers = random.Random(0)
    slowest = [max(sum(numbers.choices(shards, k=per_rank)) for _ in range(ranks)) for _ in range(draws // ranks + 50)]
    return sum(slowest) / len(slowest)


def predict(step, machine, ranks, per_rank, sums="fixed"):
    """Seconds of a step of `per_rank` shards on each of `ranks` ranks, and what they are made of."""
    late = expected_late(step.shards, per_rank, ranks) if ranks > 1 and len(step.shards) > 1 else per_rank * step.mean()
    busy = free_at = 0.0
    for floats, done in buckets(step.layers):
        took = sum_seconds(floats, ranks, machine, sums)
        free_at = max(free_at, done * step.backward) + took
        busy += took
    shown = max(0.0, free_at - step.backward) if ranks > 1 else 0.0
    stolen = machine.steals * (busy - shown)
    gathers = 3 * math.ceil(math.log2(ranks)) * machine.far.latency if ranks > 1 else 0.0
    seconds = late + shown + stolen + gathers + step.other
    alone = per_rank * step.mean() + step.other
    return {"ranks": ranks, "shards_per_rank": per_rank, "seconds": seconds, "reduce_seconds": busy,
            "reduce_shown": shown, "reduce_stolen": stolen, "waiting_for_slower_ranks": late - per_rank * step.mean(),
            "gathers": gathers, "efficiency": alone / seconds}

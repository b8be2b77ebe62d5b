"""Makes a budget profile: what each (layer, KV head) misses with how many blocks.

    python3 predictor/train/budget_profile.py --traces novel.trace plays.trace ... \
        --held held_demo.trace --out predictor/weights/smollm2_135m.fcbp

For each head and each of POINTS shares of the context: the share of attention's
mass that is missed when the blocks with the largest probabilities of one token
are chosen for the next, averaged over the traces.  predictor/budget_profile.h
has the file.
"""
import argparse
import struct

import numpy as np

from traces import BLOCK, RECENT, SINKS, decode, read_trace

MAGIC, VERSION = 0x50424346, 1   # "FCBP"
POINTS = np.array([0, 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256]) / 512
STEPS = 4   # every so many tokens of a trace


def missed_mass(trace):
    """[layers, heads, points]: the mean missed mass of a trace."""
    _, layers, heads, steps, blocks = trace.codes.shape
    counts = np.round(POINTS * blocks).astype(int)
    missed = np.zeros((layers, heads, len(POINTS)))
    ends = [(trace.tokens - trace.steps + s) // BLOCK - RECENT
            for s in range(1, steps, STEPS)]
    for layer in range(layers):
        for head in range(heads):
            largest, mass = (decode(trace.codes[kind, layer, head])
                             for kind in (0, 1))
            for step, end in zip(range(1, steps, STEPS), ends):
                order = np.argsort(-largest[step - 1, SINKS:end], kind="stable")
                covered = np.cumsum(mass[step, SINKS:end][order])
                at = np.minimum(counts, len(covered)) - 1
                missed[layer, head] += covered[-1] - np.where(
                    at < 0, 0, covered[at])
    return missed / len(ends)


def convex(missed):
    """The lower convex hull of each curve over POINTS."""
    flat = missed.reshape(-1, len(POINTS)).copy()
    for curve in flat:
        hull = []
        for i in range(len(POINTS)):
            while len(hull) > 1:
                a, b = hull[-2], hull[-1]
                if ((curve[b] - curve[a]) * (POINTS[i] - POINTS[a])
                        < (curve[i] - curve[a]) * (POINTS[b] - POINTS[a])):
                    break
                hull.pop()
            hull.append(i)
        curve[:] = np.interp(POINTS, POINTS[hull], curve[hull])
    return flat.reshape(missed.shape)


def share_out(missed, total, blocks, least):
    """Chosen blocks of each head: `total` in all, where they help most."""
    flat = missed.reshape(-1, len(POINTS))
    grid = np.arange(blocks + 1)
    curves = np.stack([np.interp(grid, POINTS * blocks, c) for c in flat])
    gains = curves[:, :-1] - curves[:, 1:]
    gains[:, :least] = np.inf
    order = np.argsort(-gains, axis=None, kind="stable")[:total]
    return np.bincount(order // blocks, minlength=len(flat))


def evaluate(missed, held, share):
    """Mean missed mass of a held-out trace: alike, and by the profile."""
    truth = missed_mass(held)
    blocks = held.codes.shape[-1]
    mean = int(blocks * share) - 5
    flat = truth.reshape(-1, len(POINTS))
    grid = POINTS * blocks

    def mass(counts):
        return np.mean([np.interp(c, grid, t) for c, t in zip(counts, flat)])
    counts = share_out(missed, mean * len(flat), blocks, 2)
    return mass([mean] * len(flat)), mass(counts), counts


def crc32c(data):
    """The CRC of the file."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def main():
    """Reads the traces, writes the file, says what it is worth."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--traces", nargs="+", required=True)
    parser.add_argument("--held", nargs="*", default=[])
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    traces = [read_trace(path) for path in options.traces]
    missed = convex(np.mean([missed_mass(t) for t in traces], axis=0))
    layers, heads, points = missed.shape
    file = struct.pack("<5I", MAGIC, VERSION, layers, heads, points)
    file += POINTS.astype("<f4").tobytes() + missed.astype("<f4").tobytes()
    with open(options.out, "wb") as out:
        out.write(file + struct.pack("<I", crc32c(file)))
    for path in options.held:
        for share in (1 / 8, 1 / 16, 1 / 32):
            alike, shared, counts = evaluate(missed, read_trace(path), share)
            print(f"{path} 1/{1 / share:.0f}: missed {alike:.4f} alike, "
                  f"{shared:.4f} by the profile; chosen blocks "
                  f"{counts.min()} to {counts.max()}")


if __name__ == "__main__":
    main()

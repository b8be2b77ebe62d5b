"""Attention traces, as bench/trace_capture.cc writes them, and samples of them."""
from __future__ import annotations

import dataclasses
import json

import numpy as np

UNIT = 30720          # the code of 1 (predictor/history.h)
SINKS, RECENT = 1, 3  # blocks that are always there
BLOCK = 16            # tokens


@dataclasses.dataclass
class Trace:
    """codes [kind][layer][head][step][block], uint16."""
    name: str
    codes: np.ndarray
    tokens: int

    @property
    def steps(self):
        return self.codes.shape[3]

    def candidates(self, step):
        """The blocks that are chosen from at a step: [SINKS, end)."""
        position = self.tokens - self.steps + step
        return SINKS, position // BLOCK - RECENT


def read_trace(path):
    with open(path, "rb") as file:
        header = json.loads(file.readline())
        codes = np.frombuffer(file.read(), dtype="<u2")
    shape = [header[key] for key in ("layers", "kv_heads", "steps", "blocks")]
    return Trace(str(path), codes.reshape(len(header["kinds"]), *shape),
                 header["tokens"])


def decode(codes):
    """Codes -> scores, float32."""
    bits = codes.astype(np.uint32)
    bits = np.where(bits == 0, 0, (bits << 13) + ((127 - 30) << 23))
    return bits.astype(np.uint32).view(np.float32)


def scaled(codes, scale):
    """What a network sees of codes."""
    if scale == "log":
        return codes.astype(np.float32) / UNIT
    return decode(codes)


@dataclasses.dataclass
class Batch:
    rows: torch.Tensor    # [n, window, blocks], as the network sees them
    target: torch.Tensor  # [n, blocks], scores, zero outside the candidates
    mask: torch.Tensor    # [n, blocks], the candidates


def history(trace, kind, layer, head, step, window, stride, probe, budget,
            unseen="previous"):
    """Codes [window, blocks] of the rows before `step`, every `stride`-th; with
    `probe` > 1 only each probe-th of them saw all blocks, the others those that
    the last whole row would have chosen."""
    at = step - 1 - stride * np.arange(window - 1, -1, -1)
    # The first row stands for those before it, as in the policy.
    rows = trace.codes[kind, layer, head, np.maximum(at, 0)].copy()
    if probe > 1:
        phase = np.random.randint(probe)
        for i in range(window):
            if (i + phase) % probe == 0:
                whole = rows[i].copy()
                continue
            if i == 0:
                whole = rows[0].copy()
            seen = np.argpartition(whole, -budget)[-budget:]
            # What was not seen stays as it was, or is nothing (RowRing::Unseen).
            kept = rows[max(i - 1, 0)].copy()
            if unseen == "zero":
                kept[:] = 0
            first, end = trace.candidates(at[i])
            kept[seen], kept[:first], kept[end:] = (
                rows[i][seen], rows[i][:first], rows[i][end:])
            rows[i] = kept
    return rows


def sample(trace, window, scale, count, regime, random, spread=True,
           unseen="previous"):
    """A Batch of `count` random (kind, layer, head, step)s.  `regime` is
    (stride, probe): rows one in `stride` tokens, or all blocks one in `probe`."""
    stride, probe = regime
    import torch  # only training needs it
    kinds, layers, heads, steps, blocks = trace.codes.shape
    rows, targets, masks = [], [], []
    for _ in range(count):
        kind, layer, head = (random.integers(n) for n in (kinds, layers, heads))
        step = int(random.integers(min(80, steps // 2), steps - stride))
        later = int(random.integers(stride)) if spread else 0
        rows.append(scaled(history(trace, kind, layer, head, step, window, stride,
                                   probe, blocks // 16, unseen), scale))
        first, end = trace.candidates(step + later)
        mask = np.zeros(blocks, bool)
        mask[first:end] = True
        targets.append(decode(trace.codes[kind, layer, head, step + later]) * mask)
        masks.append(mask)
    return Batch(torch.from_numpy(np.stack(rows)),
                 torch.from_numpy(np.stack(targets)),
                 torch.from_numpy(np.stack(masks)))

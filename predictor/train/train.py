"""Trains the network of the policy `conv` on attention traces, and compares it
with the simple policies on texts it has not seen.  See README.md."""
import argparse
import time

import numpy as np
import torch

from network import ConvNet, write_file
from traces import decode, read_trace, sample

# Rows one in `stride` tokens; or all blocks one in `probe` tokens.
TRAINED = ((1, 1), (1, 1), (1, 4), (4, 1))
COMPARED = ((1, 1), (1, 4), (4, 1))
# log2 of a score is about 30 times its code: a softmax over log-scale answers
# times this is the distribution that they claim.
STEEPNESS = 30 * float(np.log(2))


def loss_of(net, batch, kind):
    scores = net(batch.rows)
    if kind == "mse":       # the paper's
        return ((scores - batch.target) ** 2 * batch.mask).sum() / batch.mask.sum()
    # Cross-entropy with where the next row's mass lies: recall of mass.
    logits = scores * (STEEPNESS if net.scale == "log" else 1e3)
    logits = logits.masked_fill(~batch.mask, -1e9).log_softmax(-1)
    mass = batch.target.sum(-1, keepdim=True).clamp(min=1e-9)
    return -(batch.target / mass * logits).sum(-1).mean()


def train(options, traces):
    torch.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)
    net = ConvNet(options.window, *options.channels, options.scale,
                  options.unseen)
    adam = torch.optim.Adam(net.parameters(), lr=options.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, options.rate,
                                                   options.steps)
    start, mean = time.time(), None
    for step in range(options.steps):
        trace = traces[random.integers(len(traces))]
        regime = (1, options.probe) if options.probe else TRAINED[
            random.integers(len(TRAINED))]
        batch = sample(trace, options.window, options.scale, options.batch,
                       regime, random, unseen=options.unseen)
        loss = loss_of(net, batch, options.loss)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        schedule.step()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {mean:.6f}, "
                  f"{time.time() - start:.0f} s", flush=True)
    return net.eval()


def recall(scores, batch, share):
    """The share of the candidates' mass in the best blocks // share of them."""
    best = scores.masked_fill(~batch.mask, -np.inf).topk(
        scores.shape[1] // share).indices
    return (batch.target.gather(1, best).sum(1) /
            batch.target.sum(1).clamp(min=1e-9)).mean().item()


def simple_policies(rows):
    """rows [n, window, blocks], scores -> scores of the next row."""
    ema = rows[:, 0]
    for i in range(1, rows.shape[1]):
        ema = ema.lerp(rows[:, i], 0.3)
    newest = rows.flip(1)
    linear4 = sum(w * newest[:, i] for i, w in enumerate((.43, .20, .12, .18)))
    return {"last": newest[:, 0], "ema 0.3": ema, "linear4": linear4}


def compare(nets, traces, options):
    print("text, (stride, probe): recall of mass at 1/16 and 1/32 of the blocks")
    for trace in traces:
        for regime in COMPARED:
            random = np.random.default_rng(options.seed + 1)
            np.random.seed(options.seed)
            codes = sample(trace, 64, "log", options.compared, regime, random)
            rows = torch.from_numpy(decode(np.round(
                codes.rows.numpy() * 30720).astype(np.uint16)))
            answers = {"oracle": codes.target, **simple_policies(rows)}
            for name, net in nets.items():
                x = (codes.rows if net.scale == "log" else rows)[:, -net.window:]
                with torch.no_grad():
                    answers[name] = torch.cat([net(part) for part in x.split(64)])
            line = "  ".join(
                f"{name} {recall(s, codes, 16):.4f} {recall(s, codes, 32):.4f}"
                for name, s in answers.items())
            print(f"{trace.name.split('/')[-1]} {regime}: {line}", flush=True)


def fit_linear4(traces, options):
    """Least squares of the next row's scores on the last four rows'."""
    random = np.random.default_rng(options.seed)
    gram, right = np.zeros((4, 4)), np.zeros(4)
    for trace in traces:
        batch = sample(trace, 4, "log", 400, (1, 1), random)
        rows = decode(np.round(batch.rows.numpy() * 30720).astype(np.uint16))
        mask = batch.mask.numpy()
        x = np.stack([rows[:, 3 - i][mask] for i in range(4)]).astype(np.float64)
        gram += x @ x.T
        right += x @ batch.target.numpy()[mask]
    print("linear4, newest first:", np.linalg.solve(gram, right).round(3))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--traces", nargs="+", required=True, help="to learn from")
    add("--held", nargs="+", default=[], help="to compare on")
    add("--out", help="weights file to write")
    add("--save", help="state dict to write, for --load")
    add("--load", help="state dict to compare, instead of training")
    add("--window", type=int, default=16)
    add("--channels", type=int, nargs=2, default=(8, 16))
    add("--scale", choices=("linear", "log"), default="log")
    add("--unseen", choices=("previous", "zero"), default="previous",
        help="what a row says of blocks that were not attended")
    add("--probe", type=int, default=0,
        help="rows see all blocks every so many tokens; 0: a mixture")
    add("--loss", choices=("mse", "mass"), default="mass")
    add("--steps", type=int, default=1500)
    add("--batch", type=int, default=16)
    add("--rate", type=float, default=4e-3)
    add("--compared", type=int, default=512, help="samples of a comparison")
    add("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    np.random.seed(options.seed)
    traces = [read_trace(path) for path in options.traces]
    fit_linear4(traces, options)
    if options.load:
        net = ConvNet(options.window, *options.channels, options.scale,
                      options.unseen).eval()
        net.load_state_dict(torch.load(options.load, weights_only=True))
    else:
        net = train(options, traces)
    if options.out:
        write_file(net, options.out)
    if options.save:
        torch.save(net.state_dict(), options.save)
    compare({"conv": net}, [read_trace(path) for path in options.held], options)


if __name__ == "__main__":
    main()

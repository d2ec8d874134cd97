"""Measure the cost of the balanced loss against plain cross-entropy, forward and backward; prints JSON.

    python benchmarks/blda_cost.py [--size 512 512] [--classes 19] [--runs 9] [--device cpu] [--growth] [--one-thread]

Source batch: statistics update + alignment + balanced loss. Mixed batch: the target's statistics, both alignments, one
loss. Plain and balanced runs alternate, so that both see the same machine; `ratio` is the median of the pairs' ratios.
`extra_MB`: how much higher the memory peak of the balanced loss is than that of the plain one. The direct evaluation of
the method, in float64, is measured on --direct-size. --growth adds sizes and class counts.
--one-thread measures the CPU time of one thread, for machines on which other work runs too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from blda.balance.balanced_criterion import BalancedCriterion
from blda.balance.cross_entropy import cross_entropy
from blda.balance.kernels.choice import kernels
from blda.balance.logit_statistics import LogitStatistics
from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import IGNORE, Sample
from runs import circumstances

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import reference

Work = Callable[[], None]
Clock = Callable[[], float]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--size", nargs=2, type=int, default=(512, 512), metavar=("HEIGHT", "WIDTH"))
    arguments.add_argument("--classes", type=int, default=19)
    arguments.add_argument("--batch", type=int, default=2)
    arguments.add_argument("--runs", type=int, default=9)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--direct-size", nargs=2, type=int, default=(64, 64), metavar=("HEIGHT", "WIDTH"))
    arguments.add_argument("--growth", action="store_true", help="also 256^2 to 1024^2, and 2, 19 and 150 classes")
    arguments.add_argument("--one-thread", action="store_true", help="CPU time of one thread instead of wall time")
    given = arguments.parse_args()
    clock = time.perf_counter
    if given.one_thread:
        torch.set_num_threads(1)
        clock = time.thread_time
    compiled = kernels(torch.device(given.device).type)
    report = {**circumstances(given.device), "threads": torch.get_num_threads()}
    report["clock"] = clock.__name__
    report["kernels"] = compiled.__name__ if compiled else "plain torch"
    shape = (given.batch, given.classes, *given.size)
    report.update(measured(shape, given.runs, given.device, clock))
    report["direct"] = direct((given.batch, given.classes, *given.direct_size), given.device, clock)
    if given.growth:
        sizes, counts = ((256, 256), (512, 512), (1024, 1024)), (2, 19, 150)
        shapes = [(given.batch, given.classes, *size) for size in sizes]
        shapes += [(given.batch, count, 256, 256) for count in counts]
        report["growth"] = [measured(shape, max(3, given.runs // 3), given.device, clock) for shape in shapes]
    print(json.dumps(report, indent=1))


def measured(shape: tuple[int, ...], runs: int, device: str, clock: Clock = time.perf_counter) -> dict[str, object]:
    """Measure the plain against the balanced loss on both kinds of batch."""
    return {
        "shape": shape,
        **{kind: compared(*works(kind, shape, device), runs, device, clock) for kind in ("source", "mixed")},
    }


def works(kind: str, shape: tuple[int, ...], device: str) -> tuple[Work, Work]:
    """Make the plain and the balanced computation on one random batch: every class occurs, a tenth of the pixels is
    ignored.
    """
    batch, classes, *size = shape
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(classes, (batch, *size), generator=generator)
    label[torch.rand(label.shape, generator=generator) < 0.1] = IGNORE
    own = torch.nn.functional.one_hot(label.clamp(max=classes - 1), classes).movedim(-1, 1)
    logits = 2 * torch.randn(shape, generator=generator).add_(own)
    from_source = torch.rand(label.shape, generator=generator) < 0.5
    logits, label, from_source = (tensor.to(device) for tensor in (logits, label, from_source))
    logits.requires_grad_()
    balanced = BalancedCriterion(*(LogitStatistics(classes).to(device) for _ in range(2)))
    source = Sample(logits, label, ("",) * batch, (0,) * batch)
    balanced.source_loss(logits.detach(), source)
    weight = torch.where(from_source, 1.0, 0.7)
    mixed, pseudo = Mixed(logits, label, weight, from_source), PseudoLabels(label, weight)

    def back(loss: Tensor) -> None:
        loss.backward()
        logits.grad = None

    if kind == "source":
        return lambda: back(cross_entropy(logits, label)), lambda: back(balanced.source_loss(logits, source))
    return lambda: back(cross_entropy(logits, label, weight)), lambda: back(balanced.mixed_loss(logits, mixed, pseudo))


def compared(plain: Work, balanced: Work, runs: int, device: str, clock: Clock = time.perf_counter) -> dict[str, float]:
    """Medians of alternating runs, and memory."""
    for work in (plain, balanced, plain, balanced):
        work()
    pairs = [(seconds(plain, device, clock), seconds(balanced, device, clock)) for _ in range(runs)]
    plain_peak, peak = peak_megabytes(plain, device), peak_megabytes(balanced, device)
    return {
        "plain_ms": round(1e3 * statistics.median(first for first, _ in pairs), 2),
        "balanced_ms": round(1e3 * statistics.median(second for _, second in pairs), 2),
        "more_ms": round(1e3 * statistics.median(second - first for first, second in pairs), 2),
        "ratio": round(statistics.median(second / first for first, second in pairs), 2),
        "plain_MB": round(plain_peak, 1),
        "extra_MB": round(peak - plain_peak, 1),
    }


def direct(shape: tuple[int, ...], device: str, clock: Clock) -> dict[str, object]:
    """Time correction and loss pixel by pixel in float64, once, against plain cross-entropy of the same batch."""
    classes = shape[1]
    g = torch.Generator().manual_seed(0)
    label = torch.randint(classes, (shape[0], *shape[2:]), generator=g).to(device)
    logits = torch.randn(shape, generator=g).to(device).requires_grad_()
    domain = LogitStatistics(classes).to(device)

    def work() -> None:
        delta = reference.correction(logits.detach(), label, domain.mixture, domain.anchors)
        cross_entropy(logits - 0.1 * delta, label).backward()

    return {"shape": shape, **compared(lambda: cross_entropy(logits, label).backward(), work, 1, device, clock)}


def seconds(work: Work, device: str, clock: Clock = time.perf_counter) -> float:
    """Time of one run, the device's queue drained before and after."""
    drain(device)
    start = clock()
    work()
    drain(device)
    return clock() - start


def drain(device: str) -> None:
    """Wait until the device has finished."""
    if device != "cpu":
        torch.cuda.synchronize()


def peak_megabytes(work: Work, device: str) -> float:
    """Peak memory of one run minus the memory held before it; on a CPU, Linux's count for the process."""
    if device != "cpu":
        drain(device)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        drain(device)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def resident(key: str) -> float:
    """A line of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


if __name__ == "__main__":
    main()

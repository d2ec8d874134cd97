"""Measure the cost of the balanced loss against plain cross-entropy, by size, class count and phase.

Each run of benchmarks/blda_cost.py waits for the device before and after: `more_ms` is the extra time of one call on an
idle device. `queued_more_ms` is the extra time per call when many follow each other, as in a training step. `kernels`
is the device's own time by kernel.
"""

from __future__ import annotations

import torch

import blda_cost
from blda.balance.alignment import alignment
from blda.balance.cross_entropy import balanced_cross_entropy
from blda.balance.kernels.choice import kernels
from blda.balance.logit_statistics import LogitStatistics
from blda.data.sample import IGNORE
from gpu import profile
from gpu.report import Report, settings, usable

SHAPES = ((2, 19, 512, 512), (2, 19, 256, 256), (4, 19, 1024, 1024), (2, 150, 512, 512), (2, 2, 512, 512))
TOY = ((2, 5, 32, 48), (1, 3, 16, 16))


def main() -> None:
    given = settings(__doc__)
    report = Report("cost", given)
    if not usable(report):
        return
    compiled = kernels(given.device.type)
    report.put("kernels", compiled.__name__ if compiled else "plain torch")
    if compiled is None:
        report.skip("compiled kernels", f"no compiler of kernels for {given.device.type}; plain torch is measured")
    for shape in TOY if given.rehearse else SHAPES:
        name = "x".join(map(str, shape))
        report.measure(name, lambda shape=shape: measured(shape, given.device, given.rehearse), needs=3)
    first = (TOY if given.rehearse else SHAPES)[0]
    report.measure("phases", lambda: phases(first, given.device, given.rehearse), needs=3)


def measured(shape: tuple[int, ...], device: torch.device, rehearse: bool) -> dict[str, object]:
    """Measure both kinds of batch."""
    found: dict[str, object] = {}
    for kind in ("source", "mixed"):
        plain, balanced = blda_cost.works(kind, shape, device.type)
        compared = blda_cost.compared(plain, balanced, 2 if rehearse else 15, device.type)
        runs = 1 if rehearse else 20
        times = [profile.queued(work, device, runs) for work in (plain, balanced)]
        found[kind] = {
            **compared,
            "queued_plain_ms": times[0],
            "queued_balanced_ms": times[1],
            "queued_more_ms": round(times[1] - times[0], 4),
            "kernels": profile.kernels(balanced, device),
        }
    return found


def phases(shape: tuple[int, ...], device: torch.device, rehearse: bool) -> dict[str, object]:
    """Time the histogram, the fit, the alignment, and the loss with its gradient, each alone."""
    batch, classes, *size = shape
    g = torch.Generator().manual_seed(0)
    label = torch.randint(classes, (batch, *size), generator=g)
    label[torch.rand(label.shape, generator=g) < 0.1] = IGNORE
    label = label.to(device)
    logits = (2 * torch.randn(shape, generator=g)).to(device).requires_grad_()
    domain = LogitStatistics(classes).to(device)
    domain.update(logits.detach(), label)
    counts = domain.histogram(logits.detach(), label)
    aligned = alignment(domain, domain, label)

    def loss() -> None:
        balanced_cross_entropy(logits, label, [aligned], 0.1).backward()
        logits.grad = None

    works = {
        "evidence": lambda: domain.histogram(logits.detach(), label),
        "fit": lambda: domain.fit(counts),
        "alignment": lambda: alignment(domain, domain, label),
        "loss and gradient": loss,
        "bias, for the log": domain.bias,
    }
    return {name: _phase(work, device, rehearse) for name, work in works.items()}


def _phase(work: profile.Work, device: torch.device, rehearse: bool) -> dict[str, object]:
    work()
    alone = [blda_cost.seconds(work, device.type) for _ in range(2 if rehearse else 9)]
    return {
        "alone_ms": round(1e3 * sorted(alone)[len(alone) // 2], 3),
        "queued_ms": profile.queued(work, device, 1 if rehearse else 20),
        "peak_MB": round(blda_cost.peak_megabytes(work, device.type), 1),
        "waits": profile.waits(work, device),
        "kernels": profile.kernels(work, device, most=5),
    }


if __name__ == "__main__":
    main()

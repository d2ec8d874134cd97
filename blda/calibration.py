"""Post-hoc calibration: a trained network is balanced when it predicts, without training (METHOD 2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist

from blda import atomic, grid
from blda.balance import Alignment
from blda.gmm import cdf
from blda.statistics import LogitStatistics

FORMAT = "blda calibration 1"
KEYS = {"nodes", "alignment", "tau", "classes", "origin"}
PIXELS = 2**18
"""Pixels corrected at a time, so that memory does not grow with the image."""
STABLE = 1e-3
"""Mixtures are fitted when a pass moves no distribution function by more than this."""
DRAWS = 2**16
"""Logit vectors drawn to estimate a bias, over all rows."""


@dataclass(frozen=True)
class Calibration:
    """What turns the logits of one network on one domain into balanced scores.

    alignment: of that domain to the source's anchors. tau: strength of the correction, 0 for none. classes: the C
    names, in the order of the logits. origin: what it was made from, in words, for those who find the file.
    """

    alignment: Alignment
    tau: float
    classes: tuple[str, ...]
    origin: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.tau < math.inf:
            raise ValueError(f"tau is {self.tau}; it must be at least 0, and 1 aligns fully")
        classes = len(self.alignment.active)
        if len(self.classes) != classes or self.alignment.table.shape != (classes, classes, grid.BINS):
            table = tuple(self.alignment.table.shape)
            raise ValueError(f"{len(self.classes)} class names and a table {table} for {classes} classes; name each")

    def __call__(self, logits: Tensor) -> Tensor:
        """Scores of the shape of the logits (B, C, H, W) or (B, C); see `scores`."""
        return scores(logits, self.alignment, self.tau)

    def to(self, device: torch.device | str) -> Calibration:
        """The same on `device`."""
        return replace(self, alignment=Alignment(*(part.to(device) for part in self.alignment)))

    def save(self, path: Path) -> None:
        """Write it, whole or not at all: tensors, numbers and texts."""
        state = {
            "format": FORMAT,
            "nodes": grid.nodes(),
            "alignment": {"table": self.alignment.table.cpu(), "active": self.alignment.active.cpu()},
            "tau": float(self.tau),
            "classes": list(self.classes),
            "origin": dict(self.origin),
        }
        atomic.write(path, lambda file: torch.save(state, file))

    @classmethod
    def load(cls, path: Path, classes: Sequence[str]) -> Calibration:
        """Read it for a network of these classes, on the CPU; no code is unpickled.

        FileNotFoundError without the file; ValueError for any other file, and for other class names.
        """
        state = _read(path)
        names = tuple(state["classes"])
        if names != tuple(classes):
            differs = next(
                (f"{a!r} where the network has {b!r}" for a, b in zip(names, classes, strict=False) if a != b), ""
            )
            raise ValueError(
                f"{path} calibrates {len(names)} classes, the network has {len(classes)}{differs and f'; {differs}'}; "
                "make one for this network with tools/calibrate.py"
            )
        alignment = Alignment(state["alignment"]["table"], state["alignment"]["active"])
        return cls(alignment, state["tau"], names, state["origin"])


def _read(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"no calibration at {path}; make one with tools/calibrate.py")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is no pickle can raise anything
        raise ValueError(f"{path} is damaged or no calibration; make one with tools/calibrate.py") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or not state.keys() >= KEYS:
        raise ValueError(f"{path} is no calibration of this version; make one with tools/calibrate.py")
    if not torch.equal(state["nodes"], grid.nodes()):
        raise ValueError(f"{path} is tabulated on another axis of logits; make it again with tools/calibrate.py")
    return state


@torch.no_grad()
def scores(logits: Tensor, alignment: Alignment, tau: float) -> Tensor:
    """Score of every class; the largest is the calibrated prediction (METHOD 2, post-hoc).

        score_c = log softmax_l( z_l + tau * Delta_cl(z_l) )[c]

    Candidate c corrects the whole logit vector with its own row. Scores of different candidates do not sum to one.

    logits: (B, C, H, W) or (B, C), any float type. Returns float32 of the same shape; exactly log softmax for tau 0 and
    for rows that were never estimated. An infinite logit is not corrected: what is ruled out stays so.
    """
    plain = logits.float().log_softmax(1)
    if tau == 0:
        return plain
    vectors = logits.float().movedim(1, -1)
    corrected = torch.cat([_candidates(part, alignment.table, tau) for part in vectors.flatten(0, -2).split(PIXELS)])
    corrected = corrected.view(vectors.shape).movedim(-1, 1)
    return torch.where(alignment.active.view(-1, *[1] * (logits.dim() - 2)), corrected, plain)


def _candidates(logits: Tensor, table: Tensor, tau: float) -> Tensor:
    """As `scores`, of logits (N, C), every row taken as estimated.

    One channel at a time, for all candidates at once: their corrections of a logit lie side by side when the channel's
    table is turned round, so C x C look-ups a pixel read C places.
    """
    place = grid.position(logits)
    left = place.long().clamp_max_(grid.BINS - 2)
    place.sub_(left)
    own, total = torch.empty_like(logits), None
    for channel in range(logits.shape[1]):
        rows = table[:, channel].t().contiguous()
        here, logit = left[:, channel], logits[:, channel, None]
        aligned = rows[here].lerp_(rows[here + 1], place[:, channel, None])
        aligned = torch.where(logit.isfinite(), torch.lerp(logit.expand_as(aligned), aligned, tau), logit)
        own[:, channel] = aligned[:, channel]
        total = aligned if total is None else torch.logaddexp(total, aligned)
    return own.sub_(total)


@torch.no_grad()
def estimated(
    batches: Iterable[tuple[Tensor, Tensor]],
    classes: int,
    components: int = 5,
    min_pixels: int = 100,
    passes: int = 20,
    device: torch.device | str = "cpu",
) -> LogitStatistics:
    """Statistics of all (logits, labels) batches together: evidence is pooled, then the mixtures are fitted to it.

    batches: logits (B, C, H, W) and labels (B, H, W), IGNORE counts nothing; with several processes, this one's share.
    passes: at most so many times EM_ITERATIONS, fewer when the fit is stable before.
    """
    statistics = LogitStatistics(classes, components, momentum=0.0, min_pixels=min_pixels).to(device)
    counts = torch.zeros(classes, classes, grid.BINS, dtype=torch.float64, device=device)
    for logits, labels in batches:
        counts += statistics.evidence(logits, labels)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(counts)
    nodes = grid.nodes(counts.device)
    for _ in range(passes):
        before = cdf(statistics.mixture, nodes)
        statistics.fit(counts)
        if (cdf(statistics.mixture, nodes) - before).abs().max() <= STABLE:
            break
    return statistics


@torch.no_grad()
def drawn_bias(statistics: LogitStatistics, calibration: Calibration, seed: int = 0) -> Tensor:
    """Bias of calibrated predictions, without labels: (C,) (METHOD 1).

    The C logits of a row are drawn independently from its mixtures and predicted; rows never estimated do not enter.
    """
    classes = statistics.classes
    rows = statistics.estimated[:classes].nonzero().flatten().tolist()
    shares = torch.zeros(classes, dtype=torch.float64, device=statistics.means.device)
    generator = torch.Generator().manual_seed(seed)
    draws = max(DRAWS // classes, 256)
    for row in rows:
        weights, means, variances = (part[row].cpu() for part in statistics.mixture)
        component = torch.multinomial(weights, draws, replacement=True, generator=generator)
        noise = torch.randn(component.shape, generator=generator)
        logits = means.gather(1, component) + variances.gather(1, component).sqrt() * noise
        winner = calibration(logits.t().to(shares.device)).argmax(1)
        shares += torch.bincount(winner, minlength=classes) / draws
    return shares / max(len(rows), 1) - 1 / classes if rows else shares

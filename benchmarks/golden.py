"""Measure the errors of the method against recorded values of the reference implementation; prints JSON.

    python benchmarks/golden.py FILE.npz [--device cpu]

FILE: arrays as METHOD 9 names them (em_*, mom_*, {source,target}_*, anchor_*, logits, labels). Reported for the direct
evaluation in float64 and for the library's fast path: the largest error and the one that 99.9 % of the values stay
below, of EM (K parameters of each cell), momentum, correction, positive CDF and loss. Exit code 1 when an error exceeds
its limit: 1e-4 each for the direct evaluation; 0.02 for 99.9 % of the corrections and 1e-4 for the loss on the fast
path.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blda.balance.alignment import alignment, correction, cumulative_density
from blda.balance.cross_entropy import balanced_cross_entropy
from blda.balance.gaussian_mixture import Mixture, em_step
from blda.balance.logit_statistics import LogitStatistics

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import reference

PROMISED = {"em": 1e-4, "momentum": 1e-4, "correction": 1e-4, "positive_cdf": 1e-4, "loss": 1e-4}
DOMAINS = ("source", "target")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--device", default="cpu", help="of the fast path")
    given = arguments.parse_args()
    try:
        golden = {name: torch.as_tensor(values) for name, values in np.load(given.file).items()}
        report = {"direct": direct(golden), "fast": fast({k: v.to(given.device) for k, v in golden.items()})}
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"error: {given.file}: {error!r}; it must be an .npz with the arrays of METHOD 9")
    wrong = [f"direct {name}" for name, most in PROMISED.items() if report["direct"][name]["largest"] > most]
    wrong += ["fast correction"] if report["fast"]["correction"]["99.9%"] > 0.02 else []
    wrong += ["fast loss"] if report["fast"]["loss"]["largest"] > 1e-4 else []
    print(json.dumps({"file": given.file.name, **report, "above_promise": wrong}, indent=1))
    sys.exit(bool(wrong))


def direct(golden: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Errors of the formulas, evaluated pixel by pixel in float64."""
    fitted = parameters(golden, "em", "0")
    for _ in range(3):
        fitted = Mixture(*reference.em_step(*fitted, golden["em_data"]))
    past, fed = share_of_past(golden)
    old, new = (parameters(golden, "mom", end) for end in ("_old", "_new"))
    kept = (torch.where(fed, past * a.double() + (1 - past) * b, a.double()) for a, b in zip(old, new, strict=True))
    logits, labels = golden["logits"], golden["labels"].long()
    anchors, tau = parameters(golden, "anchor"), float(golden["tau"])
    deltas, heights, losses = [], [], []
    for domain in DOMAINS:
        mixture = parameters(golden, domain)
        deltas.append(reference.correction(logits, labels, mixture, anchors, float(golden["cdf_clip"])))
        heights.append(reference.positive_cdf(logits, labels, mixture))
        balanced = logits.double() - tau * deltas[-1]
        per_pixel = torch.nn.functional.cross_entropy(balanced, labels, ignore_index=255, reduction="none")
        losses.append(per_pixel.mean())
    return compared(golden, fitted, Mixture(*kept), deltas, heights, losses)


def fast(golden: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Errors of the library: EM in float32, corrections and distribution functions looked up."""
    fitted = parameters(golden, "em", "0")
    for _ in range(3):
        fitted = em_step(fitted, golden["em_data"], torch.ones_like(golden["em_data"]))
    past, fed = share_of_past(golden)
    kept = Mixture(*(field.clone() for field in parameters(golden, "mom", "_old")))
    LogitStatistics._average(kept, parameters(golden, "mom", "_new"), past.float(), fed)
    logits, labels = golden["logits"], golden["labels"].long()
    deltas, heights, losses = [], [], []
    for domain in DOMAINS:
        statistics = statistics_of(golden, domain)
        aligned = alignment(statistics, statistics, labels)
        deltas.append(correction(logits, labels, [aligned]))
        heights.append(cumulative_density(logits, labels, statistics))
        losses.append(balanced_cross_entropy(logits, labels, [aligned], float(golden["tau"])))
    return compared(golden, fitted, kept, deltas, heights, losses)


def parameters(golden: Mapping[str, Tensor], prefix: str, suffix: str = "") -> Mixture:
    """Weights, means and variances under one name."""
    return Mixture(*(golden[f"{prefix}_{field}{suffix}"] for field in Mixture._fields))


def share_of_past(golden: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Share t^n of the past in every row, and a mask of the rows seen, to broadcast over parameters (METHOD 3)."""
    ceiling = float(golden["mom_momentum"]) * min(int(golden["mom_iteration"]) / int(golden["mom_warmup"]), 1)
    absent, seen = golden["mom_iterations_since_update"][:, :1, None], golden["mom_seen"][:, :1, None]
    return ceiling ** absent.double(), seen > 0


def statistics_of(golden: Mapping[str, Tensor], domain: str) -> LogitStatistics:
    """The recorded mixtures of a domain, with the recorded anchors."""
    mixture, anchors = parameters(golden, domain), parameters(golden, "anchor")
    statistics = LogitStatistics(len(mixture.means), mixture.means.shape[-1]).to(mixture.means.device)
    for field in Mixture._fields:
        getattr(statistics, field).copy_(getattr(mixture, field))
        getattr(statistics, f"anchor_{field}").copy_(getattr(anchors, field))
    classes = statistics.num_classes
    statistics.estimated.fill_(True)[:classes] = golden[f"{domain}_estimated"].any(1)
    return statistics


def compared(
    golden: Mapping[str, Tensor],
    fitted: Mixture,
    kept: Mixture,
    deltas: Iterable[Tensor],
    heights: Iterable[Tensor],
    losses: Iterable[Tensor],
) -> dict[str, dict[str, float]]:
    """Compare computed with recorded values, by quantity; both domains together."""
    recorded = {
        "em": (fitted, parameters(golden, "em", "3")),
        "momentum": (kept, parameters(golden, "mom")),
        "correction": (deltas, [golden[f"{domain}_correction"] for domain in DOMAINS]),
        "positive_cdf": (heights, [golden[f"{domain}_positive_cdf"] for domain in DOMAINS]),
        "loss": (losses, [golden[f"{domain}_loss"] for domain in DOMAINS]),
    }
    return {name: errors(*pair) for name, pair in recorded.items()}


def errors(computed: Iterable[Tensor], expected: Iterable[Tensor]) -> dict[str, float]:
    """Largest absolute error, and the one that 99.9 % stay below."""
    pairs = zip(computed, expected, strict=True)
    error = torch.cat([(a.double() - b.double()).abs().flatten().cpu() for a, b in pairs])
    rank = max(1, round(0.999 * len(error)))
    return {"largest": float(f"{error.max():.3g}"), "99.9%": float(f"{error.kthvalue(rank).values:.3g}")}


if __name__ == "__main__":
    main()

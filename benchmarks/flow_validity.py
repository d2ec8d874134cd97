"""Compare forward-backward validity with the street world's exact visibility; prints JSON.

    python benchmarks/flow_validity.py [--flow dis-medium] [--gaps 1 2 4 8] [--worlds 6] [--look target]

Truth comes from the renderer: a point is seen in the other frame when the pixel it falls on shows the same surface.
Per gap, in frames, in percent, for flow estimated directly, for flow chained from consecutive frames, and for the exact
flow: precision and recall of `valid` against points that are seen; of `occluded` against points that lie inside the
other frame and are hidden there; and the median end-point error in pixels of the valid points that are seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from blda.data.segmentation_dataset import image_tensor
from blda_video.build import estimator_of
from blda_video.flow.flow_geometry import chain, consistent, inside, occluded
from blda_video.street_world.simulator.world import World
from runs import circumstances

Flow = Callable[[int, int], Tensor]
"""Frame t, offset -> flow (1, 2, H, W)."""


class Drive:
    """A street world with its flow obtained in three ways: 'direct', 'chained' and 'exact'."""

    def __init__(self, world: World, estimator: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.world, self.estimator = world, estimator
        self.direct = lru_cache(maxsize=64)(self._direct)
        self.ways: dict[str, Flow] = {"direct": self.direct, "chained": self.chained, "exact": self.exact}

    def _direct(self, t: int, offset: int) -> Tensor:
        return self.estimator(*(image_tensor(self.world.frame(each).image) for each in (t, t + offset)))

    def chained(self, t: int, offset: int) -> Tensor:
        step = 1 if offset > 0 else -1
        flow = self.direct(t, step)
        for done in range(step, offset, step):
            flow = chain(flow, self.direct(t + done, step))
        return flow

    def exact(self, t: int, offset: int) -> Tensor:
        return torch.from_numpy(self.world.flow(t, offset)[0])[None]

    def seen(self, t: int, offset: int) -> Tensor:
        """True visibility of the points, (1, H, W) bool."""
        return torch.from_numpy(self.world.flow(t, offset)[1])[None]


def compared(drive: Drive, way: Flow, t: int, offset: int) -> tuple[Tensor, Tensor]:
    """Count pixels (claimed, true, both; of `valid`, then of `occluded`) and return the end-point errors too."""
    forward, backward = way(t, offset), way(t + offset, -offset)
    exact, seen = drive.exact(t, offset), drive.seen(t, offset)
    valid, hidden = consistent(forward, backward), occluded(forward, backward)
    behind = inside(exact) & ~seen
    pairs = ((valid, seen), (hidden, behind))
    counts = [mask.sum() for claim, truth in pairs for mask in (claim, truth, claim & truth)]
    return torch.stack(counts), (forward - exact).norm(dim=1)[valid & seen]


def summary(counts: Tensor, errors: Tensor) -> dict[str, float]:
    """Precision and recall in percent, and the median error in pixels."""
    claimed, true, both, claimed_hidden, hidden, both_hidden = counts.tolist()
    shares = {
        "valid_precision": both / max(claimed, 1),
        "valid_recall": both / max(true, 1),
        "occluded_precision": both_hidden / max(claimed_hidden, 1),
        "occluded_recall": both_hidden / max(hidden, 1),
    }
    return {
        **{name: round(100 * share, 2) for name, share in shares.items()},
        "error": round(float(errors.median()), 3),
    }


def measure(drives: list[Drive], gap: int, way: str) -> dict[str, float]:
    """Measure every fourth frame of all drives, in both directions of time."""
    frames = drives[0].world.frames
    found = [
        compared(drive, drive.ways[way], t, offset)
        for drive in drives
        for offset in (gap, -gap)
        for t in range(max(0, -offset), frames - max(0, offset), 4)
    ]
    counts, errors = zip(*found, strict=True)
    return summary(torch.stack(counts).sum(0), torch.cat(errors))


def main() -> None:
    """Read the arguments, measure every gap, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flow", default="dis-medium", help="estimator, as in a config")
    parser.add_argument("--gaps", type=int, nargs="+", default=[1, 2, 4, 8], help="distances in frames")
    parser.add_argument("--worlds", type=int, default=6, help="number of drives")
    parser.add_argument("--frames", type=int, default=16, help="frames of a drive")
    parser.add_argument("--look", default="target", help="source or target")
    parser.add_argument("--size", type=int, nargs=2, default=(128, 256), metavar=("HEIGHT", "WIDTH"))
    given = parser.parse_args()
    if not 1 <= max(given.gaps) < given.frames:
        parser.error(f"gaps {given.gaps} need more than {given.frames} frames; raise --frames")
    estimator = estimator_of("--flow", given.flow)
    drives = [Drive(World(given.look, seed, given.size, given.frames), estimator) for seed in range(given.worlds)]
    gaps = {str(gap): {way: measure(drives, gap, way) for way in drives[0].ways} for gap in given.gaps}
    settings = {"flow": given.flow, "look": given.look, "size": list(given.size), "worlds": given.worlds}
    print(json.dumps({"benchmark": "flow_validity", **settings, "gaps": gaps, **circumstances("cpu")}, indent=1))


if __name__ == "__main__":
    main()

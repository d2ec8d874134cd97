"""Measure how well flow carries labels: warp labels of frame t - k to t, compare them with those of t; prints JSON.

    python benchmarks/label_carry.py --images DIR --labels DIR --flow dis-medium --gaps 1 2 4 [--classes 11]
    python benchmarks/label_carry.py ... --flow '{name: raft, size: small, weights: PATH}'

Both folders hold files with equal stems, sorted by time; frames without a label file are left out. Ids from
--classes on are ignored (11, the default, is CamVid's void). `mIoU` is over the pixels whose point lies inside frame t
- k, `mIoU_outside_wrong` counts the others as errors, `mIoU_where_valid` is over the pixels that pass the
forward-backward check.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
import yaml
from torch import Tensor

from blda.data.readers.decoding import read_ids, read_image
from blda.data.sample import IGNORE
from blda.data.segmentation_dataset import image_tensor
from blda_video.build import ESTIMATORS, estimator_of
from blda_video.clips.clip_dataset import Estimator
from blda_video.flow.estimator_names import described
from blda_video.flow.flow_geometry import consistent, warp_labels
from runs import circumstances


def standing(image: Tensor, neighbour: Tensor) -> Tensor:
    """Return zero flow (B, 2, H, W)."""
    return torch.zeros_like(image[:, :2])


def ids_of(path: Path, size: torch.Size) -> Tensor:
    """Read label ids (1, H, W) int64. Raises ValueError naming the file when its size differs."""
    ids = torch.from_numpy(read_ids(path).astype("int64"))[None]
    if ids.shape[1:] != size:
        raise ValueError(f"label {path} is {tuple(ids.shape[1:])}, its image {tuple(size)}; give labels of one size")
    return ids


def confusion(truth: Tensor, carried: Tensor, classes: int) -> Tensor:
    """Confusion matrix (classes, classes + 1), pixels: truth x carried; the last column counts pixels without class."""
    counted = truth < classes
    cell = truth * (classes + 1) + carried.clamp(max=classes)
    return torch.bincount(cell[counted], minlength=classes * (classes + 1)).view(classes, classes + 1)


def mean_iou(counts: Tensor) -> float:
    """Mean IoU in percent over the classes that occur; carried pixels without class are misses of their true class."""
    hit = counts.diagonal()
    union = counts.sum(1) + counts[:, :-1].sum(0) - hit
    return 100 * float((hit / union)[union > 0].double().mean())


def carry(images: list[Path], labels: dict[str, Path], gap: int, estimator: Estimator, classes: int) -> dict:
    """Scores of one gap. Raises ValueError when no two frames are so far apart, or a label's size differs from its
    image's.
    """
    inner, every, trusted = torch.zeros(3, classes, classes + 1, dtype=torch.int64)
    seconds, share = 0.0, []
    for past, now in zip(images, images[gap:], strict=False):
        image, neighbour = image_tensor(read_image(now)), image_tensor(read_image(past))
        start = time.perf_counter()
        flow = estimator(image, neighbour)
        seconds += time.perf_counter() - start
        valid = consistent(flow, estimator(neighbour, image))
        truth, before = (ids_of(labels[frame.stem], image.shape[-2:]) for frame in (now, past))
        carried = warp_labels(before, flow, IGNORE)
        every += confusion(truth, carried, classes)
        inner += confusion(torch.where(carried == IGNORE, IGNORE, truth), carried, classes)
        trusted += confusion(torch.where(valid, truth, IGNORE), carried, classes)
        share.append(valid.float().mean())
    if not share:
        raise ValueError(f"gap {gap} needs more than the {len(images)} frames that have a label of the same stem")
    return {
        "mIoU": round(mean_iou(inner), 2),
        "mIoU_outside_wrong": round(mean_iou(every), 2),
        "mIoU_where_valid": round(mean_iou(trusted), 2),
        "valid_share": round(float(torch.stack(share).mean()), 4),
        "pairs": len(share),
        "milliseconds_per_flow": round(1000 * seconds / len(share), 1),
    }


def main() -> None:
    """Read the arguments, measure every gap, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of consecutive frames")
    parser.add_argument("--labels", type=Path, required=True, help="folder of label pictures of the same stems")
    parser.add_argument("--gaps", type=int, nargs="+", default=[1, 2, 4], help="distances in frames")
    help_of_flow = "estimator: a name, or a part as in a config; none copies without motion"
    parser.add_argument("--flow", default="dis-medium", help=help_of_flow)
    parser.add_argument("--classes", type=int, default=11, help="number of classes; ids from it on are ignored")
    parser.add_argument("--frames", type=int, default=None, help="use only the first N frames")
    options = parser.parse_args()
    part = yaml.safe_load(options.flow)
    try:
        labels = {path.stem: path for path in sorted(options.labels.iterdir())}
        images = [path for path in sorted(options.images.iterdir()) if path.stem in labels][: options.frames]
        estimator = standing if part == "none" else estimator_of("--flow", part)
        gaps = {str(gap): carry(images, labels, gap, estimator, options.classes) for gap in options.gaps}
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    name = described(part, ESTIMATORS)
    print(json.dumps({"benchmark": "label_carry", "flow": name, "gaps": gaps, **circumstances("cpu")}, indent=2))


if __name__ == "__main__":
    main()

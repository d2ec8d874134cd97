"""Measure the end-point error of an estimator on a pair of images with true flow; prints JSON.

    python benchmarks/flow_error.py --first A --second B --truth F --flow dis-medium
    python benchmarks/flow_error.py ... --flow '{name: raft, size: small, weights: PATH}'

The truth is .flo, KITTI's 16-bit .png, .npy (int16 x 10) or .npz (u, v); pixels without truth do not count. `outliers`
are percent of pixels whose error is above 1, 3 and 5 px, `still` is the error of no motion at all.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
import yaml
from torch import Tensor

from blda.data.readers.decoding import read_image
from blda.data.segmentation_dataset import image_tensor
from blda_video.build import ESTIMATORS, estimator_of
from blda_video.flow.estimator_names import described
from blda_video.flow.flow_formats import read_flow
from runs import circumstances

LIMITS = (1, 3, 5)


def errors(flow: Tensor, truth: Tensor) -> dict[str, object]:
    """Errors of an estimate against the truth, both (2, H, W); pixels with unknown truth are left out.

    ValueError when the sizes differ.
    """
    if flow.shape != truth.shape:
        raise ValueError(f"flow {tuple(flow.shape)} and truth {tuple(truth.shape)} differ in size; give matching files")
    known = truth.isfinite().all(0)
    distance = (flow - truth)[:, known].double().norm(dim=0)
    return {
        "mean": round(float(distance.mean()), 3),
        "median": round(float(distance.median()), 3),
        "outliers": {f"{limit}px": round(100 * float((distance > limit).double().mean()), 2) for limit in LIMITS},
        "still": round(float(truth[:, known].double().norm(dim=0).mean()), 3),
        "pixels": int(known.sum()),
    }


def main() -> None:
    """Read the arguments, estimate, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=Path, required=True, help="image")
    parser.add_argument("--second", type=Path, required=True, help="image; the flow leads from the first to it")
    parser.add_argument("--truth", type=Path, required=True, help="flow file")
    parser.add_argument("--flow", default="dis-medium", help="estimator: a name, or a part as in a config")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    part = yaml.safe_load(options.flow)
    try:
        estimator = estimator_of("--flow", part)
        pair = [image_tensor(read_image(path)).to(options.device) for path in (options.first, options.second)]
        truth = read_flow(options.truth)
        start = time.perf_counter()
        flow = estimator(*pair)[0].cpu()
        seconds = time.perf_counter() - start
        measured = errors(flow, truth)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    result = {"benchmark": "flow_error", "flow": described(part, ESTIMATORS), **measured}
    result |= {"seconds": round(seconds, 3), "threads": torch.get_num_threads(), **circumstances(options.device)}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

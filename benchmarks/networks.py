"""DACS, DAFormer, HRDA and MIC with a small pretrained encoder, street world -> CamVid 15 Hz video; prints JSON.

    python benchmarks/networks.py [--seeds 0] [--jobs 2] [--variants dacs hrda] [--output runs/networks] [key=value ...]

All train configs/world2camvid.yaml (EfficientNet-lite0 with ImageNet weights, crops of 192 x 256) on the same images
one at a time, for fewer steps, with self-training and with BLDA, beside DAFormer's network on the source alone. The
four differ as in configs/variants, without HRDA's doubled images. Finished runs in OUTPUT are not repeated, stopped
ones continue. Per variant and method: mIoU, mAcc and deviation over classes with mean and spread over the seeds, every
class, and the median seconds a step.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from runs import circumstances, comparison, result, summary, trained

DAFORMER = ["feature_distance={strength: 0.005, min_ratio: 0.75, things: [sign, car, pedestrian, bicyclist]}"]
HRDA = [*DAFORMER, "model.hrda={attention: {name: segformer, embed: 64}}"]
VARIANTS = {
    "dacs": ["model.head={name: deeplab_v2, dilations: [6, 12]}", "source.rare=null"],
    "daformer": DAFORMER,
    "hrda": HRDA,
    "mic": [*HRDA, "self_training.masked={block: 32, ratio: 0.7}"],
}
IMAGES = ["offsets=[]", "consistency=[]", "smoothing=null", "training.workers=0", "log.bar=false"]
SHORT = ["training.steps=300", "evaluation.every=300", "training.checkpoint_every=100"]


def main() -> None:
    parser = comparison(__doc__, "world2camvid.yaml", "networks", seeds=[0])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    given = parser.parse_intermixed_args()
    runs = {"source_only": [*IMAGES, *SHORT, *given.overrides, "method=source_only"]}
    for name in given.variants:
        for method in ("self_training", "blda"):
            runs[f"{name}_{method}"] = [*IMAGES, *SHORT, *VARIANTS[name], *given.overrides, f"method={method}"]
    folders = trained(given.config, runs, given.seeds, given.output, given.jobs)
    report = {name: {**summary([result(f) for f in each]), "seconds": pace(each)} for name, each in folders.items()}
    asked = {"config": given.config.name, "overrides": given.overrides, "seeds": given.seeds}
    print(json.dumps({**circumstances(), **asked, "variants": report}, indent=1))


def pace(folders: list[Path]) -> float:
    """Median seconds a step over the logged spans of all runs."""
    lines = [json.loads(line) for each in folders for line in (each / "metrics.jsonl").read_text().splitlines()]
    seconds = [line["train/seconds_per_step"] for line in lines if "train/seconds_per_step" in line]
    return round(statistics.median(seconds), 3)


if __name__ == "__main__":
    main()

"""Training steps recorded from another implementation: the file's arrays, and the matching config of this project.

Arrays, S steps of B images: `source`, `target` (S, B, 3, H, W) bytes, `label` (S, B, H, W), `w/*` the weights before
all steps, `final/*` and `teacher/*` the student's and the teacher's weights after them, under mmsegmentation's names,
`loss_names` and `losses` (S, names), `pseudo_weight` (S, B, H, W), `threshold`, `trusted` (B, H, W) and `mask` (B, 1,
H, W) alike in all steps, `windows` (forwards, 4) of HRDA's detail as top, bottom, left, right in the order of the
student's forwards, and two texts: `rates` with the encoder's and the heads' rate, `pasted` with the classes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blda.data.sample import Sample
from blda.models.encoders.mit import REDUCTIONS
from blda.models.sliding_window import Window

CONFIGS = Path(__file__).parents[1] / "configs"
PARTS = ("", "mix.", "masked.")
FUSED, DETAIL, FEATURES = "decode.loss_seg", "decode.hr.loss_seg", "src.loss_imnet_feat_dist"
KNOWN = {*(part + name for part in PARTS for name in (FUSED, DETAIL)), FEATURES}
FIELDS = ("source", "target", "label", "loss_names", "losses", "pseudo_weight", "threshold", "rates", "pasted")


@dataclass(frozen=True)
class RecordedSteps:
    """Arrays of a file by name; see the module. Raises ValueError naming the missing or unsupported array."""

    arrays: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, path: Path) -> RecordedSteps:
        """Read a file and check that it can be replayed."""
        with np.load(path) as file:
            steps = cls({name: file[name] for name in file.files})
        missing = [name for name in FIELDS if name not in steps.arrays]
        missing += [f"{kind}/*" for kind in ("w", "final", "teacher") if not steps.weights(kind)]
        if missing:
            raise ValueError(f"no recorded steps: {', '.join(missing)} missing")
        if "even" not in str(steps.arrays["pasted"]):
            raise ValueError(f"pasted is '{steps.arrays['pasted']}'; only 'even classes' is understood")
        if FUSED not in steps.loss_names:
            raise ValueError(f"loss_names are {list(steps.loss_names)}; {FUSED} must be among them")
        return steps

    def weights(self, kind: str) -> dict[str, Tensor]:
        """The tensors below `w`, `final` or `teacher`, by mmsegmentation's names."""
        own = {name: array for name, array in self.arrays.items() if name.startswith(f"{kind}/")}
        return {name.removeprefix(f"{kind}/"): torch.as_tensor(array) for name, array in own.items()}

    @cached_property
    def loss_names(self) -> tuple[str, ...]:
        """Names of the recorded columns."""
        return tuple(map(str, self.arrays["loss_names"]))

    @property
    def losses(self) -> list[dict[str, float]]:
        """Recorded losses of every step by name; NaN is a feature distance over no pixel at all."""
        return [dict(zip(self.loss_names, map(float, row), strict=True)) for row in self.arrays["losses"]]

    @property
    def masked(self) -> bool:
        """Tell whether there is a third loss, on masked images (MIC)."""
        return any(name.startswith("masked.") for name in self.loss_names)

    @cached_property
    def two_resolutions(self) -> bool:
        """Tell whether the network is HRDA's."""
        return any("scale_attention" in name for name in self.weights("w"))

    def samples(self) -> list[tuple[Sample, Sample]]:
        """The source and the target batch of every step."""
        images = [torch.as_tensor(self.arrays[name]) for name in ("source", "target", "label")]
        trusted = torch.as_tensor(self.arrays["trusted"]) if self._margins() else None
        draws = tuple(range(images[0].shape[1]))
        names = tuple(f"image {draw}" for draw in draws)
        pairs = []
        for source, target, label in zip(*images, strict=True):
            unlabelled = Sample(target, None, names, draws, trusted=trusted).to("cpu")
            pairs.append((Sample(source, label.to(torch.uint8), names, draws).to("cpu"), unlabelled))
        return pairs

    def seen(self) -> Tensor:
        """Visible pixels of the masked images, (B, 1, H, W) bool."""
        return torch.as_tensor(self.arrays["mask"]).bool()

    def windows(self) -> list[Window]:
        """HRDA's window of every forward of the student."""
        return [Window(top, left, bottom - top, right - left) for top, bottom, left, right in self._boxes()]

    def overrides(self, encoder: Path) -> list[str]:
        """Overrides that turn configs/gta2cs.yaml into this run; encoder: file of the encoder's first weights."""
        changes = {
            **self._network(encoder),
            "method": "self_training",
            "resolution": 1,
            **{f"{domain}.crop": list(self.arrays["source"].shape[-2:]) for domain in ("source", "target")},
            "self_training.threshold": float(self.arrays["threshold"]),
            "self_training.margins": None,
            **dict(zip(("self_training.ignore_top", "self_training.ignore_bottom"), self._rows(), strict=True)),
            **self._rates(),
            "training.precision": "no",
            "training.steps": 10**15,  # the rate's decay vanishes
            "log.bar": False,
        }
        if FEATURES not in self.loss_names:
            changes["feature_distance"] = None
        variant = [str(CONFIGS / "variants" / "hrda.yaml")] if self.two_resolutions else []
        masks = ["self_training.masked={}"] if self.masked else []
        return [*variant, *masks, *(f"{key}={json.dumps(value)}" for key, value in changes.items())]

    def _network(self, encoder: Path) -> dict[str, object]:
        """Config of MiT and head from the shapes of the weights, without dropout and drop-path."""
        shapes = {name: tuple(tensor.shape) for name, tensor in self.weights("w").items()}
        inner = "head." if self.two_resolutions else ""
        first = f"decode_head.{inner}embed_layers.0.proj.weight"
        if first not in shapes or "backbone.patch_embed1.proj.weight" not in shapes:
            raise ValueError(f"weights of no MiT with a DAFormer head: {first} or backbone.patch_embed1 is missing")
        channels = [shapes[f"backbone.patch_embed{stage}.proj.weight"][0] for stage in (1, 2, 3, 4)]
        blocks = [re.match(r"backbone\.block(\d)\.(\d+)\.", name) for name in shapes]
        depths = [1 + max(int(b[2]) for b in blocks if b and int(b[1]) == stage) for stage in (1, 2, 3, 4)]
        for stage, reduction in enumerate(REDUCTIONS[:-1], start=1):
            if shapes.get(f"backbone.block{stage}.0.attn.sr.weight", ())[2:] != (reduction, reduction):
                raise ValueError(f"backbone.block{stage} does not reduce keys by {reduction}, as a MiT does")
        found: dict[str, object] = {
            "model.encoder": {"name": "mit", "variant": [channels, depths], "drop_path": 0.0, "weights": str(encoder)},
            "model.head": {"name": "daformer", "embed": shapes[first][0], "dropout": 0.0},
        }
        if self.two_resolutions:
            embed = shapes["decode_head.scale_attention.embed_layers.0.proj.weight"][0]
            (top, bottom, left, right), *_ = self._boxes()
            found["model.hrda.attention"] = {"name": "segformer", "embed": embed, "dropout": 0.0}
            found["model.hrda.detail"] = [bottom - top, right - left]
        return found

    def _boxes(self) -> Sequence[tuple[int, int, int, int]]:
        boxes = [tuple(map(int, box)) for box in self.arrays["windows"]]
        if len({(bottom - top, right - left) for top, bottom, left, right in boxes}) != 1:
            raise ValueError("windows differ in size; each must be (top, bottom, left, right)")
        return boxes

    def _rates(self) -> dict[str, float]:
        text = str(self.arrays["rates"])
        found = [float(number) for number in re.findall(r"\d+(?:\.\d+)?e-?\d+|\d*\.\d+", text)]
        if len(found) != 2 or "no schedule" not in text:
            raise ValueError(f"rates are '{text}'; understood is '6e-5, heads 6e-4, no schedule'")
        return {"optimizer.lr": found[0], "optimizer.head_factor": found[1] / found[0], "optimizer.warmup": 0}

    def _weighed(self) -> np.ndarray:
        """Mask (B, H, W) bool of pixels whose pseudo-label has a weight in any step."""
        return (self.arrays["pseudo_weight"] > 0).any(0)

    def _margins(self) -> bool:
        """Tell whether pixels outside `trusted` have no pseudo-label; otherwise whole rows have none."""
        return "trusted" in self.arrays and np.array_equal(self._weighed(), self.arrays["trusted"] > 0)

    def _rows(self) -> tuple[int, int]:
        """Count the rows at the top and the bottom without pseudo-label."""
        weighed = self._weighed()
        if self._margins() or not weighed.any():
            return 0, 0
        rows = np.flatnonzero(weighed.any((0, 2)))
        if not weighed[:, rows[0] : rows[-1] + 1].all():
            raise ValueError("pseudo_weight is 0 neither outside of `trusted` nor in whole rows at top and bottom")
        return int(rows[0]), int(weighed.shape[1] - 1 - rows[-1])

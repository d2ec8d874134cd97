"""Published checkpoints of whole networks, in other libraries' names: DAFormer, HRDA, MIC, BLDA and SegFormer.

mmsegmentation 0.x names the modules of a network `backbone.` and `decode_head.`. Self-training adds a prefix: `model.`
for the student, `ema_model.` for the teacher, and `imnet_model.` for the encoder of the feature distance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from blda.models.weights.parameter_names import own_names
from blda.models.weights.reading import load_exactly, locate, named_tensors, read_file

NETWORKS = ("model", "ema_model", "imnet_model")

ENCODER = r"^(backbone|segformer\.encoder)\."
HEAD_RULES = (
    (r"^decode_head\.scale_attention\.", "attention."),  # HRDA
    (r"^decode_head\.head\.", "head."),
    (r"^decode_head\.", "head."),
    (r"\.(?:embed_layers|linear_c)\.(\d)\.proj\.", r".embed.\1."),
    (r"\.fuse_layer\.aspp_modules\.", ".fuse.branches."),
    (r"\.aspp_modules\.(\d)\.conv\.", r".classifiers.\1."),  # DeepLab-v2
    (r"\.(?:fuse_layer|linear_fuse)\.", ".fuse."),
    (r"\.fuse\.weight$", ".fuse.0.weight"),  # transformers
    (r"\.batch_norm\.", ".fuse.1."),
    (r"\.depthwise_conv\.", ".0."),
    (r"\.pointwise_conv\.", ".1."),
    (r"\.conv\.", ".0."),
    (r"\.bn\.", ".1."),
    (r"\.(?:conv_seg|linear_pred)\.", ".classifier."),
)


@dataclass(frozen=True)
class ExternalCheckpoint:
    """The networks of a checkpoint file.

    path: the file.
    tensors: tensors by their stored names.
    classes: class names; None if the file does not store them.
    step: training step; None if the file does not store it.
    """

    path: Path
    tensors: dict[str, Tensor]
    classes: tuple[str, ...] | None
    step: int | None

    @classmethod
    def read(cls, weights: str | Path) -> ExternalCheckpoint:
        """Read a checkpoint; weights: a path or 'package:NAME', see `locate`.

        Raises FileNotFoundError for a missing file, and ValueError naming the file if it is not a checkpoint.
        """
        path = locate(weights)
        content = read_file(path)
        tensors = {key.removeprefix("module."): tensor for key, tensor in named_tensors(content, path).items()}
        meta = content.get("meta")
        meta = meta if isinstance(meta, Mapping) else {}
        names, step = meta.get("CLASSES"), meta.get("iter")
        # Cityscapes has 'traffic light', the label maps of this project have 'light'.
        classes = tuple(str(name).removeprefix("traffic ") for name in names) if names else None
        return cls(path, tensors, classes, None if step is None else int(step))

    def network(self, which: str = "model") -> dict[str, Tensor]:
        """Return the tensors of one of NETWORKS; a file without prefixes holds the 'model' only."""
        available = [name for name in NETWORKS if any(key.startswith(f"{name}.") for key in self.tensors)] or ["model"]
        if which not in available:
            raise ValueError(f"'{self.path}' holds no '{which}'; take {' or '.join(available)} with --network")
        chosen = {k.removeprefix(f"{which}."): t for k, t in self.tensors.items() if k.startswith(f"{which}.")}
        prefixes = tuple(f"{name}." for name in NETWORKS)
        without_prefix = {k: t for k, t in self.tensors.items() if not k.startswith(prefixes)}
        return {**chosen, **without_prefix}

    def fill(self, network: nn.Module, which: str, classes: tuple[str, ...], without: tuple[str, ...] = ()) -> None:
        """Load one of the file's networks into a `Segmenter`, whose normalisation stays.

        network: the `Segmenter` to fill.
        which: one of NETWORKS.
        classes: class names of the `Segmenter`, in the order of its logits.
        without: prefixes of stored names to leave out.
        Raises ValueError for other classes, and for missing, unexpected or misshapen tensors, all of which it lists.
        """
        self._compare(classes)
        stored = {k: t for k, t in self.network(which).items() if not (without and k.startswith(without))}
        state = segmenter_names(stored)
        count = len(state.get("head.classifier.weight", state.get("head.classifiers.0.weight", classes)))
        if count != len(classes):
            raise ValueError(
                f"'{self.path}' has {count} classes, the config {len(classes)}; set classes to the file's, in the same "
                "order"
            )
        own = network.state_dict()
        load_exactly(network, {"mean": own["mean"], "std": own["std"], **state}, self.path)

    def _compare(self, classes: tuple[str, ...]) -> None:
        if self.classes is not None and self.classes != classes:
            raise ValueError(f"'{self.path}' was trained for other classes; set classes=[{', '.join(self.classes)}]")


def segmenter_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of a whole network to those of `Segmenter`.

    state: parameters with the names of mmsegmentation, of the SegFormer authors or of transformers.
    """
    encoder = {re.sub(ENCODER, "", key): tensor for key, tensor in state.items() if re.match(ENCODER, key)}
    renamed = {f"encoder.{key}": tensor for key, tensor in own_names(encoder).items()}
    authors = "decode_head.linear_c1.proj.weight" in state
    coarse_first = authors or "decode_head.linear_fuse.weight" in state
    for key, tensor in state.items():
        if re.match(ENCODER, key) or _unused(key, state):
            continue
        name = re.sub(r"\.linear_c(\d)\.", lambda match: f".linear_c.{int(match[1]) - 1}.", key) if authors else key
        for pattern, replacement in HEAD_RULES:
            name = re.sub(pattern, replacement, name)
        if ".embed." in name and tensor.ndim == 2:
            tensor = tensor[..., None, None]  # a linear layer on every pixel
        if coarse_first and name == "head.fuse.0.weight":
            tensor = torch.cat(tensor.chunk(4, dim=1)[::-1], dim=1)
        renamed[name] = tensor
    return renamed


def _unused(key: str, state: Mapping[str, Tensor]) -> bool:
    """Tell whether a parameter belongs to the second classifier of mmsegmentation's SegFormer head, which is unused."""
    return key.startswith("decode_head.conv_seg.") and "decode_head.linear_pred.weight" in state

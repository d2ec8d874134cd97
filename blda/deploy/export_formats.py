"""Formats of exported networks: each writes a traced program, and runs what it wrote."""

from __future__ import annotations

import io
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module

import torch
from torch import Tensor
from torch.export import ExportedProgram

from blda.deploy.exportable_network import INPUT

AXES = {0: "batch", 2: "height", 3: "width"}
"""Names of the axes of images that a dynamic program leaves free."""
LARGEST = 2**31 - 2**24
"""Bytes of parameters in one ONNX file: protobuf allows 2 GiB with everything."""
OLDEST_TORCH = (2, 7)
"""Oldest torch that may write ONNX: 2.6 fails on batch norms with onnxscript 0.5, and to serialise with 0.2."""
METADATA = "metadata.json"
"""Name of the extra file that holds the metadata of a program of torch.export."""

Model = Callable[[Tensor], Tensor]


class ExportRefused(ValueError):
    """A network that a format cannot hold; its message is one line with the fix."""


class ExportFormat(ABC):
    """A format of exported networks; `suffix` ends its files, `needs` are libraries of the extra `export`."""

    suffix: str
    needs: tuple[str, ...] = ()

    def require(self) -> None:
        """Raise ValueError that names the extra, unless the format's libraries are installed."""
        for library in self.needs:
            try:
                import_module(library)
            except ImportError as error:
                raise ValueError(
                    f"the format needs {library} ({error}); run: pip install 'blda-video[export]'"
                ) from error

    @abstractmethod
    def content(self, program: ExportedProgram, output: str, metadata: Mapping[str, str]) -> bytes:
        """Return a file's bytes; output: name of the output. Raises ExportRefused for what the format cannot hold."""

    @abstractmethod
    def model(self, content: bytes) -> Model:
        """Load a file's bytes as anyone would, on the CPU: images (B, 3, H, W) -> logits or scores."""


class Onnx(ExportFormat):
    """ONNX, run by onnxruntime; the metadata are its `metadata_props`."""

    suffix = ".onnx"
    needs = ("onnx", "onnxscript", "onnxruntime")

    def require(self) -> None:
        if tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH:
            raise ValueError(
                f"torch {torch.__version__} does not work with today's onnxscript; update torch, or use "
                "--format torch.export"
            )
        super().require()

    def content(self, program: ExportedProgram, output: str, metadata: Mapping[str, str]) -> bytes:
        size = sum(tensor.nbytes for tensor in program.state_dict.values())
        if size > LARGEST:
            raise ExportRefused(
                f"the network has {size / 2**30:.1f} GiB, an ONNX file 2 at most; use --format torch.export"
            )
        exported = torch.onnx.export(
            program, dynamo=True, input_names=[INPUT], output_names=[output], verbose=False, optimize=True
        )
        proto = exported.model_proto
        _name_axes(proto.graph)
        for name, text in metadata.items():
            proto.metadata_props.add(key=name, value=text)
        return proto.SerializeToString()

    def model(self, content: bytes) -> Model:
        import onnxruntime

        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return lambda image: torch.from_numpy(session.run(None, {INPUT: image.numpy()})[0])


class TorchExport(ExportFormat):
    """An `ExportedProgram` in a .pt2 file; the metadata are its extra file METADATA."""

    suffix = ".pt2"

    def content(self, program: ExportedProgram, output: str, metadata: Mapping[str, str]) -> bytes:
        file = io.BytesIO()
        extra = {METADATA: json.dumps(metadata, ensure_ascii=False, indent=1)}
        torch.export.save(program, file, extra_files=extra)
        return file.getvalue()

    def model(self, content: bytes) -> Model:
        return torch.export.load(io.BytesIO(content)).module()


FORMATS: Mapping[str, type[ExportFormat]] = {"onnx": Onnx, "torch.export": TorchExport}


def _name_axes(graph: object) -> None:
    """Give the free axes of the image their names throughout an ONNX graph, which torch numbers."""
    sizes = graph.input[0].type.tensor_type.shape.dim
    names = {sizes[axis].dim_param: name for axis, name in AXES.items() if sizes[axis].dim_param}
    if not names:
        return
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b")
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = pattern.sub(lambda match: names[match[1]], size.dim_param)

"""Exported networks compute what the network does, say what they are, and are refused in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import onnx_export
from blda.balance.alignment import Alignment
from blda.balance.logit_grid import BINS
from blda.calibration.calibration_file import Calibration
from blda.deploy import export_formats
from blda.deploy.export_formats import METADATA, ExportFormat, Onnx, TorchExport
from blda.deploy.exportable_network import TrainedNetwork
from blda.deploy.network_export import ExportCheck, export
from blda.engine.inference import Predictor
from blda.models.classifier import Classifier, LinearHead
from blda.models.encoders import resnet
from blda.models.encoders.mit import MiT
from blda.models.encoders.small import SmallEncoder
from blda.models.encoders.timm_encoder import TimmEncoder
from blda.models.encoders.vit_pyramid import ViTPyramid
from blda.models.heads.daformer import DAFormerHead
from blda.models.heads.deeplab import DeepLabV2Head
from blda.models.heads.segformer import SegFormerHead
from blda.models.hrda import HRDA
from blda.models.segmenter import Segmenter

MIT = ((8, 16, 20, 32), (1, 1, 1, 1))
CLASSES = ("road", "sky", "straße")


@pytest.fixture(autouse=True)
def needs_the_extra() -> None:
    onnx_export.skip_without()


def _segmenter(encoder: nn.Module, head: type[nn.Module], **keywords: object) -> Segmenter:
    return Segmenter(encoder, head(encoder.channels, len(CLASSES), **keywords), encoder.mean, encoder.std)


def _daformer() -> Segmenter:
    return _segmenter(MiT(MIT), DAFormerHead, embed=8)


def _segformer() -> Segmenter:
    return _segmenter(MiT(MIT), SegFormerHead, embed=8)


def _deeplab() -> Segmenter:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.DEPTHS, 50, (1, 1, 1, 1))
        return _segmenter(resnet.ResNetEncoder(50, stem="deep"), DeepLabV2Head, dilations=(6, 12))


def _hrda() -> Segmenter:
    encoder = MiT(MIT)
    heads = (head(encoder.channels, len(CLASSES), embed=8) for head in (DAFormerHead, SegFormerHead))
    return HRDA(encoder, *heads, (64, 64))


def _vit() -> Segmenter:
    encoder = ViTPyramid("vit_tiny_patch16_224", width=8)
    encoder.net.blocks = encoder.net.blocks[:2]
    encoder.blocks = [1]
    return _segmenter(encoder, SegFormerHead, embed=8)


def _timm() -> Segmenter:
    return _segmenter(TimmEncoder("resnet10t"), DAFormerHead, embed=8)


def _small() -> Segmenter:
    return _segmenter(SmallEncoder((8, 8, 8, 8)), DAFormerHead, embed=8)


def _trained(network: Segmenter, calibration: Calibration | None = None) -> TrainedNetwork:
    """Give the norms statistics and the classes logits that differ, as training does."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
        if isinstance(module, nn.Conv2d) and module.out_channels == len(CLASSES):
            nn.init.normal_(module.weight, std=0.5, generator=generator)
    return TrainedNetwork(network, CLASSES, calibration, {"protocol": "three"})


@pytest.fixture
def build(request: pytest.FixtureRequest) -> Segmenter:
    torch.manual_seed(0)
    return request.param().train()


def _onnx(path: Path):
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("build", [_deeplab, _hrda, _vit, _timm], indirect=True, ids=lambda made: made.__name__)
def test_onnx_of_every_network_at_a_size_of_no_round_number(build, tmp_path):
    """Every encoder and head is in one of them."""
    check = export(_trained(build), Onnx(), (66, 93), tmp_path / "net.onnx")
    assert check.passed
    assert list(check.differences) == ["1x3x66x93"]
    image = torch.rand(1, 3, 66, 93, generator=torch.Generator().manual_seed(1))
    (logits,) = _onnx(tmp_path / "net.onnx").run(["logits"], {"image": image.numpy()})
    expected = Predictor(build)(image)
    assert expected.std() > 0.01
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-3, rtol=0)
    assert build.training, "the network itself stays as it was"


@pytest.mark.parametrize("build", [_daformer], indirect=True)
def test_torch_export_is_loaded_again_and_equal(build, tmp_path):
    check = export(_trained(build), TorchExport(), (64, 96), tmp_path / "net.pt2")
    assert check.passed
    assert check.bytes == (tmp_path / "net.pt2").stat().st_size
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    found = torch.export.load(tmp_path / "net.pt2").module()(image)
    torch.testing.assert_close(found, Predictor(build)(image), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("build", "to"), [(_segformer, Onnx()), (_vit, Onnx()), (_vit, TorchExport())], indirect=["build"]
)
def test_free_batch_height_and_width(build, to, tmp_path):
    path = tmp_path / f"net{to.suffix}"
    check = export(_trained(build), to, (64, 96), path, dynamic=True)
    assert check.passed
    assert list(check.differences) == ["1x3x64x96", "2x3x83x141"]
    model = to.model(path.read_bytes())
    for shape in ((3, 3, 75, 70), (1, 3, 96, 64)):
        image = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(model(image), Predictor(build)(image), atol=1e-4, rtol=1e-3)
    if isinstance(to, Onnx):
        session = _onnx(path)
        assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
        assert session.get_outputs()[0].shape == ["batch", len(CLASSES), "height", "width"]
        height, width = json.loads(session.get_modelmeta().custom_metadata_map["smallest_size"])
        assert 1 < height <= 64
        assert 1 < width <= 64


@pytest.mark.parametrize("build", [_small], indirect=True)
def test_calibration_is_inside_and_said(build, tmp_path):
    generator = torch.Generator().manual_seed(0)
    lookup = 8 * torch.rand(3, 3, BINS, generator=generator).sort().values - 4
    calibration = Calibration(Alignment(lookup, torch.tensor([True, False, True])), 0.7, CLASSES)
    trained, image = _trained(build, calibration), torch.rand(1, 3, 32, 64, generator=generator)
    expected = Predictor(build, calibration=calibration)(image)
    assert (expected - Predictor(build)(image).log_softmax(1)).abs().max() > 0.1

    assert export(trained, Onnx(), (32, 64), tmp_path / "net.onnx").passed
    session = _onnx(tmp_path / "net.onnx")
    (scores,) = session.run(["scores"], {"image": image.numpy()})
    torch.testing.assert_close(torch.from_numpy(scores), expected, atol=1e-3, rtol=0)
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["classes"]) == list(CLASSES)
    assert json.loads(said["normalisation"])["mean"] == pytest.approx(build.mean.flatten().tolist())
    assert "tau 0.7" in said["output"]
    assert (said["protocol"], said["size"], said["dynamic"]) == ("three", "[32, 64]", "false")

    assert export(trained, TorchExport(), (32, 64), tmp_path / "net.pt2").passed
    extra = {METADATA: ""}
    found = torch.export.load(tmp_path / "net.pt2", extra_files=extra).module()(image)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    assert json.loads(extra[METADATA])["classes"] == said["classes"]


def test_an_image_classifier(tmp_path):
    torch.manual_seed(0)
    encoder = SmallEncoder((8, 8, 8, 8))
    network = Classifier(encoder, LinearHead(encoder.channels, len(CLASSES)), encoder.mean, encoder.std)
    assert export(_trained(network), Onnx(), (32, 32), tmp_path / "net.onnx").passed
    session = _onnx(tmp_path / "net.onnx")
    assert session.get_outputs()[0].shape == [1, len(CLASSES)]
    assert session.get_modelmeta().custom_metadata_map["task"] == "classification"


class _Wrong(TorchExport):
    """A format that loses something of the network."""

    def __init__(self, change) -> None:
        self.change = change

    def model(self, content):
        model = super().model(content)
        return lambda image: self.change(model(image))


@pytest.mark.parametrize("build", [_small], indirect=True)
@pytest.mark.parametrize(
    "change",
    [lambda out: out + 0.01, lambda out: out[..., :1], lambda out: out * math.nan],
    ids=["off", "shape", "nan"],
)
def test_a_file_that_computes_something_else_is_not_written(build, change, tmp_path):
    path = tmp_path / "net.pt2"
    path.write_text("the last good one")
    check = export(_trained(build), _Wrong(change), (32, 64), path)
    assert not check.passed
    assert path.read_text() == "the last good one"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_largest_difference_is_that_of_all_images():
    assert ExportCheck({"a": 1e-6, "b": 2e-3}, 1).largest == pytest.approx(2e-3)
    assert not ExportCheck({"a": math.nan, "b": 0.0}, 1).passed


def _fails(network: Segmenter, to: ExportFormat, folder: Path, size=(64, 96), **keywords: bool) -> str:
    with pytest.raises(ValueError) as raised:
        export(_trained(network), to, size, folder / "net", **keywords)
    assert list(folder.iterdir()) == []
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_cannot_be_exported_is_one_line_with_the_fix(tmp_path, monkeypatch):
    assert "leave --dynamic out" in _fails(_hrda(), Onnx(), tmp_path, dynamic=True)
    lite = _segmenter(TimmEncoder("tf_efficientnet_lite0"), SegFormerHead, embed=8)
    assert "tf_*" in _fails(lite, Onnx(), tmp_path, dynamic=True)
    assert "[0, 64]" in _fails(_small(), Onnx(), tmp_path, size=(0, 64))
    swin = _segmenter(TimmEncoder("swin_tiny_patch4_window7_224"), DAFormerHead, embed=8)
    said = _fails(swin, TorchExport(), tmp_path)
    assert "TimmEncoder and DAFormerHead cannot be exported at 64 x 96" in said
    assert "224" in said
    assert "give another --size" in said
    # At 32 x 32 the coarsest level of an encoder is one pixel, which tracing takes for a constant.
    assert "or give a larger --size" in _fails(_small(), TorchExport(), tmp_path, size=(32, 64), dynamic=True)
    monkeypatch.setattr(export_formats, "LARGEST", 1000)
    assert "use --format torch.export" in _fails(_small(), Onnx(), tmp_path)
    monkeypatch.setattr(Onnx, "needs", ("a_library_that_is_not_there",))
    assert "pip install 'blda-video[export]'" in _fails(_small(), Onnx(), tmp_path)

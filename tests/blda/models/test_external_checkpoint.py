"""Published checkpoints: all names and shapes match, heads compute the published logits, other files are errors."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import published_names as names
from blda.build.network_factory import HEADS, network
from blda.config.schema import Hrda, Model
from blda.data.label_map import CITYSCAPES19
from blda.models.segmenter import Segmenter
from blda.models.weights.external_checkpoint import ExternalCheckpoint, segmenter_names

B5, B0 = {"name": "mit", "variant": "b5"}, {"name": "mit", "variant": "b0"}
R101 = {"name": "resnet", "stem": "deep"}
DLV2 = {"name": "deeplab_v2"}
FULL = {
    "daformer": (names.daformer(), Model(B5, {"name": "daformer"})),
    "hrda": (names.hrda(), Model(B5, {"name": "daformer"}, Hrda(detail=(512, 512)))),
    "segformer": (names.segformer(), Model(B5, {"name": "segformer", "embed": 768})),
    "segformer authors": (names.segformer_authors(), Model(B5, {"name": "segformer", "embed": 768})),
    "segformer hugging face": (names.segformer_hugging_face(), Model(B5, {"name": "segformer", "embed": 768})),
    "deeplab_v2": (names.deeplab_v2(), Model(R101, DLV2)),
    "deeplab_v2 of two dilations": (names.deeplab_v2(dilations=2), Model(R101, {**DLV2, "dilations": [6, 12]})),
    "hrda deeplab_v2": (names.hrda_deeplab(), Model(R101, DLV2, Hrda(attention=DLV2, detail=(512, 512)))),
}
CITYSCAPES_NAMES = tuple({"light": "traffic light", "sign": "traffic sign"}.get(name, name) for name in CITYSCAPES19)


def built(model: Model, classes: int = 19) -> nn.Module:
    return network(model, classes, False, HEADS, Segmenter)


def small(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return built(Model(B0, {"name": "daformer", "embed": 8}), classes).eval()


def published_small(classes: int = 3) -> dict[str, Tensor]:
    return names.filled(names.daformer("b0", classes, 8))


def wrapped(state: dict[str, Tensor], **further: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join networks under the prefixes of a self-training checkpoint."""
    return OrderedDict(
        (f"{prefix}.{name}", tensor)
        for prefix, network_state in {"model": state, **further}.items()
        for name, tensor in network_state.items()
    )


@pytest.mark.parametrize("kind", FULL)
def test_published_names_and_shapes_match_the_network(kind):
    shapes, model = FULL[kind]
    with torch.device("meta"):
        own = {name: tuple(tensor.shape) for name, tensor in built(model).state_dict().items()}
        renamed = segmenter_names({name: torch.empty(shape) for name, shape in shapes.items()})
    del own["mean"], own["std"]
    assert {name: tuple(tensor.shape) for name, tensor in renamed.items()} == own


def test_name_lists_agree_with_facts_known_of_the_files():
    daformer, hrda, dlv2 = names.daformer(), names.hrda(), names.deeplab_v2()
    assert daformer["decode_head.embed_layers.3.proj.weight"] == (256, 512)
    assert daformer["decode_head.fuse_layer.aspp_modules.0.conv.weight"] == (256, 1024, 1, 1)
    assert daformer["decode_head.fuse_layer.aspp_modules.3.depthwise_conv.bn.running_var"] == (1024,)
    assert daformer["decode_head.fuse_layer.aspp_modules.3.pointwise_conv.conv.weight"] == (256, 1024, 1, 1)
    assert daformer["decode_head.fuse_layer.bottleneck.conv.weight"] == (256, 1024, 3, 3)
    assert daformer["decode_head.conv_seg.weight"] == (19, 256, 1, 1)
    assert daformer["backbone.block3.39.attn.sr.weight"] == (320, 320, 2, 2)
    assert "decode_head.conv_seg.weight" not in hrda
    assert hrda["decode_head.scale_attention.fuse_layer.conv.weight"] == (256, 1024, 1, 1)
    assert dlv2["decode_head.aspp_modules.3.conv.bias"] == (19,)
    assert dlv2["backbone.stem.6.weight"] == (64, 32, 3, 3)
    assert dlv2["backbone.layer3.22.conv2.weight"] == (256, 256, 3, 3)
    # The papers' tables: MiT-B5 has 81.4 M parameters, the head 3.7 M.
    learnt = [shape for name, shape in daformer.items() if "running" not in name and "num_batches" not in name]
    assert sum(int(np.prod(shape)) for shape in learnt) / 1e6 == pytest.approx(85.2, abs=0.1)


def conv_bn_relu(state: dict[str, Tensor], name: str, x: Tensor, **keywords: int) -> Tensor:
    x = F.conv2d(x, state[f"{name}.conv.weight"], **keywords)
    running = (state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"])
    return F.batch_norm(x, *running, state[f"{name}.bn.weight"], state[f"{name}.bn.bias"]).relu()


def embedded(state: dict[str, Tensor], name: str, levels: list[Tensor]) -> Tensor:
    maps = []
    for i, level in enumerate(levels):
        weight, bias = (state[f"{name.format(i)}.proj.{kind}"] for kind in ("weight", "bias"))
        x = F.linear(level.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
        maps.append(F.interpolate(x, size=levels[0].shape[2:], mode="bilinear", align_corners=False))
    return torch.cat(maps, 1)


def daformer_logits(state: dict[str, Tensor], levels: list[Tensor]) -> Tensor:
    """Compute the published head, written out for the names of its file."""
    x, fuse = embedded(state, "decode_head.embed_layers.{}", levels), "decode_head.fuse_layer"
    branches = [conv_bn_relu(state, f"{fuse}.aspp_modules.0", x)]
    for branch, dilation in ((1, 6), (2, 12), (3, 18)):
        module, wide = f"{fuse}.aspp_modules.{branch}", {"padding": dilation, "dilation": dilation}
        depthwise = conv_bn_relu(state, f"{module}.depthwise_conv", x, groups=x.shape[1], **wide)
        branches.append(conv_bn_relu(state, f"{module}.pointwise_conv", depthwise))
    fused = conv_bn_relu(state, f"{fuse}.bottleneck", torch.cat(branches, 1), padding=1)
    return F.conv2d(fused, state["decode_head.conv_seg.weight"], state["decode_head.conv_seg.bias"])


def segformer_logits(state: dict[str, Tensor], levels: list[Tensor]) -> Tensor:
    fused = conv_bn_relu(state, "decode_head.linear_fuse", embedded(state, "decode_head.linear_c.{}", levels))
    return F.conv2d(fused, state["decode_head.linear_pred.weight"], state["decode_head.linear_pred.bias"])


@pytest.mark.parametrize(
    ("head", "shapes", "reference"),
    [("daformer", names.daformer, daformer_logits), ("segformer", names.segformer, segformer_logits)],
)
def test_an_imported_head_computes_the_published_logits(head, shapes, reference):
    state = names.filled(shapes("b0", 3, 8))
    net = built(Model(B0, {"name": head, "embed": 8}), 3).eval()
    net.load_state_dict(segmenter_names(state), strict=False)
    with torch.no_grad():
        levels = net.features(torch.rand(2, 3, 64, 96))
        torch.testing.assert_close(net.head(levels), reference(state, levels), atol=1e-5, rtol=1e-4)


def test_the_authors_segformer_joins_levels_coarsest_first():
    state = names.filled(names.segformer("b0", 3, 8))
    authors = {name.replace("linear_c.", "linear_c#"): tensor for name, tensor in state.items()}
    for i in range(4):
        authors = {name.replace(f"linear_c#{i}", f"linear_c{i + 1}"): tensor for name, tensor in authors.items()}
    weight = state["decode_head.linear_fuse.conv.weight"]
    authors["decode_head.linear_fuse.conv.weight"] = torch.cat([weight[:, i : i + 8] for i in (24, 16, 8, 0)], 1)
    assert authors.keys() == names.segformer_authors("b0", 3, 8).keys()
    ours, theirs = segmenter_names(state), segmenter_names(authors)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_student_and_teacher_of_a_file_are_distinguished(tmp_path):
    student, teacher = published_small(), names.filled(names.daformer("b0", 3, 8), seed=1)
    meta = {"CLASSES": ("a", "b", "c"), "iter": 40000, "config": "text", "PALETTE": [[0, 0, 0]] * 3}
    torch.save(
        {"state_dict": wrapped(student, ema_model=teacher, imnet_model=student), "meta": meta}, tmp_path / "w.pth"
    )
    published = ExternalCheckpoint.read(tmp_path / "w.pth")
    assert published.step == 40000
    nets = {}
    for which in ("model", "ema_model"):
        nets[which] = small()
        published.fill(nets[which], which, ("a", "b", "c"))
    assert torch.equal(nets["model"].head.classifier.weight, student["decode_head.conv_seg.weight"])
    assert torch.equal(nets["ema_model"].head.classifier.weight, teacher["decode_head.conv_seg.weight"])
    assert torch.equal(nets["model"].mean, Segmenter(nn.Identity(), nn.Identity()).mean)


def test_a_file_without_prefixes_holds_one_network(tmp_path):
    torch.save({f"module.{name}": tensor for name, tensor in published_small().items()}, tmp_path / "w.pth")
    published = ExternalCheckpoint.read(tmp_path / "w.pth")
    published.fill(small(), "model", ("a", "b", "c"))
    with pytest.raises(ValueError, match="holds no 'ema_model'; take model with --network"):
        published.network("ema_model")


@pytest.mark.parametrize("stored", [CITYSCAPES_NAMES, list(CITYSCAPES_NAMES), None])
def test_class_names_are_compared_if_the_file_stores_them(tmp_path, stored):
    content = {"state_dict": published_small(19), "meta": {"CLASSES": stored} if stored else {}}
    torch.save(content, tmp_path / "w.pth")
    published = ExternalCheckpoint.read(tmp_path / "w.pth")
    published.fill(small(19), "model", CITYSCAPES19)
    if stored:
        with pytest.raises(ValueError, match=r"other classes; set classes=\[road, sidewalk"):
            published.fill(small(19), "model", CITYSCAPES19[::-1])


def test_another_number_of_classes_is_an_error(tmp_path):
    torch.save(published_small(19), tmp_path / "w.pth")
    with pytest.raises(ValueError, match="has 19 classes, the config 3"):
        ExternalCheckpoint.read(tmp_path / "w.pth").fill(small(3), "model", ("a", "b", "c"))


def test_missing_extra_and_misshapen_names_are_listed(tmp_path):
    state = published_small()
    del state["backbone.norm4.bias"]
    state["decode_head.density.weight"] = torch.zeros(1)
    state["backbone.norm1.weight"] = torch.zeros(5)
    torch.save(wrapped(state) | {"mic.teacher.weight": torch.zeros(1)}, tmp_path / "w.pth")
    published, net = ExternalCheckpoint.read(tmp_path / "w.pth"), small()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(ValueError, match="configured network") as error:
        published.fill(net, "model", ("a", "b", "c"))
    listed = ("missing: encoder.norm4.bias", "head.density.weight", "mic.teacher.weight", "norm1.weight (5,) instead")
    assert all(words in str(error.value) for words in listed)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_unexpected_tensors_can_be_left_out(tmp_path):
    state = {**published_small(), "decode_head.density.weight": torch.zeros(1)}
    torch.save(wrapped(state) | {"mic.teacher.weight": torch.zeros(1)}, tmp_path / "w.pth")
    ExternalCheckpoint.read(tmp_path / "w.pth").fill(
        small(), "model", ("a", "b", "c"), ("mic.", "decode_head.density.")
    )


def test_weights_of_another_architecture_are_refused(tmp_path):
    torch.save(names.filled(names.segformer("b0", 3, 8)), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"not those of Segmenter.*missing: head\.embed|missing: head\.fuse"):
        ExternalCheckpoint.read(tmp_path / "w.pth").fill(small(), "model", ("a", "b", "c"))


class Code:
    def __reduce__(self):
        return print, ("unpickled code ran",)


def test_numpy_numbers_beside_the_weights_are_read_and_code_is_not(tmp_path, capsys):
    meta = {"best": np.float64(71.2), "seed": np.int64(3), "CLASSES": ["a", "b", "c"]}
    torch.save(
        {"state_dict": published_small(), "meta": meta, "optimizer": {"lr": np.float32(6e-5)}}, tmp_path / "w.pth"
    )
    ExternalCheckpoint.read(tmp_path / "w.pth").fill(small(), "model", ("a", "b", "c"))
    torch.save({"state_dict": published_small(), "meta": {**meta, "hook": Code()}}, tmp_path / "code.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Code(), protocol=2))
    for name in ("code.pth", "half.pth", "plain.pth"):
        with pytest.raises(ValueError, match="cannot read weights") as error:
            ExternalCheckpoint.read(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)
    assert "unpickled" not in capsys.readouterr().out


def test_numpy_numbers_of_old_files_are_read(tmp_path):
    """NumPy 1 wrote numpy.core, NumPy 2 writes numpy._core."""
    torch.save({"state_dict": published_small(), "meta": {"iter": np.int64(5)}}, tmp_path / "new.pth")
    for package in (b"numpy.core", b"numpy._core"):
        with zipfile.ZipFile(tmp_path / "new.pth") as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
            for entry in new.namelist():
                content = new.read(entry)
                if entry.endswith("data.pkl"):
                    content, count = re.subn(rb"numpy\.(_core|core)(?=\.multiarray)", package, content)
                    assert count == 1
                old.writestr(entry, content)
        assert ExternalCheckpoint.read(tmp_path / "old.pth").step == 5

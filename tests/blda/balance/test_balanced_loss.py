"""`BalancedLoss` in loops that are not ours: state, types, several processes, torch.compile, autocast, wrong input."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch import multiprocessing as mp
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import blda
from blda.balance.alignment import alignment, alignments
from blda.balance.balanced_criterion import BalancedCriterion
from blda.balance.balanced_loss import BalancedLoss
from blda.balance.cross_entropy import balanced_cross_entropy, cross_entropy
from blda.balance.logit_statistics import LogitStatistics
from blda.balance.pooled_statistics import PooledStatistics
from blda.data.batches import Mixed, PseudoLabels
from blda.data.class_labels import INTEGERS
from blda.data.sample import IGNORE, Sample

C, SHAPE = 4, (2, 12, 16)


def balanced(**keywords) -> BalancedLoss:
    return BalancedLoss(C, **{"tau": 0.3, "warmup": 5, "min_pixels": 5, **keywords})


def batch(seed: int, shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits that fit the labels, labels with ignored pixels, weights with zeros, a mask of pasted pixels."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, C, shape, generator=g)
    own = F.one_hot(labels, C).movedim(-1, 1)
    logits = 2 * torch.randn(shape[0], C, *shape[1:], generator=g) + 2 * own
    labels[torch.rand(shape, generator=g) < 0.1] = IGNORE
    weight = torch.rand(shape, generator=g)
    weight[torch.rand(shape, generator=g) < 0.2] = 0
    return logits, labels, weight, torch.rand(shape, generator=g) < 0.5


def steps(loss: BalancedLoss, seeds: range, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Losses and gradients of some steps of a loop with both domains."""
    results = []
    for seed in seeds:
        logits, labels, weight, mask = batch(seed)
        z = logits.to(dtype).requires_grad_()
        for value in (loss.source_loss(z, labels), loss.target_loss(z, labels, weight, mask)):
            results += [value.detach(), torch.autograd.grad(value, z)[0]]
    return results


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_three_lines_are_the_formulas_one_by_one() -> None:
    loss, (z, y, w, mask) = balanced(), batch(0)
    statistics = [LogitStatistics(C, warmup=5, min_pixels=5, seed=seed) for seed in (0, 1)]
    statistics[0].update(z, y)
    expected = balanced_cross_entropy(z, y, [alignment(statistics[0], statistics[0], y)], 0.3)
    assert torch.equal(loss.source_loss(z, y), expected)
    statistics[1].update(z, torch.where(mask | (w <= 0), IGNORE, y))
    aligned = alignments([(each, None) for each in statistics], statistics[0])
    expected = balanced_cross_entropy(z, y, [aligned], 0.3, ~mask, w)
    torch.testing.assert_close(loss.target_loss(z, y, w, mask), expected)
    assert loss.target_statistics.estimated.all()
    assert blda.BalancedLoss is BalancedLoss


def test_the_training_steps_criterion_is_this_loss() -> None:
    loss = balanced()
    criterion = BalancedCriterion(*(LogitStatistics(C, warmup=5, min_pixels=5, seed=seed) for seed in (0, 1)), tau=0.3)
    for seed in range(3):
        z, y, w, mask = batch(seed)
        sample = Sample(torch.zeros(2, 3, *SHAPE[1:]), y, ("a", "b"), (0, 1))
        mixed = Mixed(sample.image, y, w, mask)
        assert torch.equal(criterion.source_loss(z, sample), loss.source_loss(z, y))
        assert torch.equal(criterion.mixed_loss(z, mixed, PseudoLabels(y, w)), loss.target_loss(z, y, w, mask))
    for name, module in criterion.state().items():
        assert same(list(module.buffers()), list(getattr(loss, name).buffers()))


def test_state_dict_is_all_that_a_resume_needs() -> None:
    whole = balanced()
    expected = steps(whole, range(6))
    first = balanced()
    steps(first, range(3))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = balanced(seed=9)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert same(steps(second, range(3, 6)), expected[12:])
    assert same(list(second.state_dict().values()), list(whole.state_dict().values()))
    state = first.state_dict()
    assert {name.split(".")[0] for name in state} == {"source_statistics", "target_statistics"}
    assert not list(first.parameters())
    for name in state:
        with pytest.raises(RuntimeError, match="Missing key"):
            second.load_state_dict({key: value for key, value in state.items() if key != name})
    other = copy.deepcopy(first)
    assert same(steps(other, range(3, 6)), expected[12:])
    assert first.source_statistics.updates == 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_logits_of_any_float_type(dtype: torch.dtype) -> None:
    results, expected = steps(balanced(), range(2), dtype), steps(balanced(), range(2))
    assert [each.dtype for each in results[::2]] == [torch.float32] * 4
    assert {each.dtype for each in results[1::2]} == {dtype}
    for own, right in zip(results, expected, strict=True):
        torch.testing.assert_close(own.float(), right, atol=2e-2 if right.ndim == 0 else 2e-4, rtol=0.05)


@pytest.mark.parametrize("kind", sorted(INTEGERS, key=str), ids=str)
def test_labels_of_any_integer_type(kind: torch.dtype) -> None:
    z, y, w, mask = batch(0)
    y = y.clamp(max=1) if kind is torch.bool else y.clamp(max=3) if kind is torch.int8 else y
    results = []
    for labels in (y, y.to(kind)):
        loss = balanced()
        results.append([loss.source_loss(z, labels), loss.target_loss(z, labels, w, mask), *loss.buffers()])
    assert same(*results)


def test_a_classifier_has_one_label_an_image() -> None:
    loss, (z, y, w, mask) = balanced(), batch(0, (96,))
    flat = balanced()
    assert torch.equal(loss.source_loss(z, y), flat.source_loss(z.t()[None], y[None]))
    own = loss.target_loss(z, y, w, mask)
    assert torch.equal(own, flat.target_loss(z.t()[None], y[None], w[None], mask[None]))


def test_weights_weigh_the_loss_and_pixels_of_weight_zero_are_not_counted() -> None:
    z, y, w, _ = batch(0)
    plain = balanced(tau=0)
    assert torch.equal(plain.source_loss(z, y, w), cross_entropy(z, y, w))
    assert torch.equal(plain.target_loss(z, y, w), cross_entropy(z, y, w))
    hidden = LogitStatistics(C, warmup=5, min_pixels=5)
    hidden.update(z, torch.where(w > 0, y, IGNORE))
    assert same(list(plain.source_statistics.buffers()), list(hidden.buffers()))
    torch.testing.assert_close(balanced().source_loss(z, y, torch.ones(SHAPE)), balanced().source_loss(z, y))


def test_pasted_pixels_update_no_statistics_of_the_target() -> None:
    z, y, w, mask = batch(0)
    loss, whole = balanced(), torch.ones_like(mask)
    loss.source_loss(z, y)
    loss.target_loss(z, y, w, whole)
    assert not loss.target_statistics.estimated.any()
    alone = balanced()
    alone.target_loss(z, y, w, torch.zeros_like(mask))
    other = balanced()
    assert torch.equal(other.target_loss(z, y, w), balanced().target_loss(z, y, w, torch.zeros_like(mask)))
    assert same(list(alone.buffers()), list(other.buffers()))


def test_before_the_first_source_batch_nothing_is_corrected() -> None:
    z, y, w, _ = batch(0)
    torch.testing.assert_close(balanced().target_loss(z, y, w), cross_entropy(z, y, w))


def test_statistics_of_another_kind_are_handed_in() -> None:
    loss = BalancedLoss.of(*(PooledStatistics(C, min_pixels=1, seed=seed) for seed in (0, 1)), tau=0.2)
    steps(loss, range(2))
    assert "target_statistics.remembered" in loss.state_dict()
    assert loss.target_statistics.remembered.sum() > 0


def test_in_eval_mode_nothing_is_updated() -> None:
    loss, (z, y, w, mask) = balanced(), batch(0)
    steps(loss, range(2))
    before = [buffer.clone() for buffer in loss.buffers()]
    loss.eval()
    first = loss.source_loss(z, y), loss.target_loss(z, y, w, mask)
    assert same(before, list(loss.buffers()))
    assert same(list(first), [loss.source_loss(z, y), loss.target_loss(z, y, w, mask)])


def test_casts_of_a_network_leave_the_statistics_whole() -> None:
    network = nn.ModuleDict({"body": nn.Conv2d(3, C, 1), "loss": balanced()})
    steps(network["loss"], range(2))
    before = [buffer.clone() for buffer in network["loss"].buffers()]
    for cast in ("half", "bfloat16", "double", "float"):
        getattr(network, cast)()
        assert network["body"].weight.dtype != torch.float32 or cast == "float"
        assert same(before, list(network["loss"].buffers()))
    network.to("meta")
    assert {buffer.device.type for buffer in network.buffers()} == {"meta"}


def test_autocast_around_the_loss_changes_no_bit() -> None:
    inside, outside = balanced(), balanced()
    with torch.autocast("cpu", torch.bfloat16):
        results = steps(inside, range(3), torch.bfloat16)
    assert same(results, steps(outside, range(3), torch.bfloat16))
    assert same(list(inside.buffers()), list(outside.buffers()))
    network, image = nn.Conv2d(3, C, 1), torch.rand(2, 3, *SHAPE[1:])
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(image)
        loss = inside.source_loss(logits, batch(0)[1])
    loss.backward()
    assert (logits.dtype, loss.dtype) == (torch.bfloat16, torch.float32)
    assert network.weight.grad.isfinite().all()
    assert network.weight.grad.any()


def test_a_compiled_step_equals_the_plain_one_and_cannot_be_one_graph() -> None:
    torch.compiler.reset()
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        network, loss = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, C, 1)), balanced()
        optimizer = torch.optim.SGD(network.parameters(), 0.1)

        def step(image: Tensor, labels: Tensor, weight: Tensor, network=network, loss=loss) -> Tensor:
            logits = network(image).relu()
            return 2 * (loss.source_loss(logits, labels) + loss.target_loss(logits, labels, weight))

        run = torch.compile(step, backend="aot_eager") if compiled else step
        for seed in range(3):
            _, labels, weight, _ = batch(seed)
            value = run(torch.rand(2, 3, *SHAPE[1:]), labels, weight)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            results.append(value.detach())
    torch.testing.assert_close(results[:3], results[3:])
    torch.compiler.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="source_loss"):
        torch.compile(step, backend="aot_eager", fullgraph=True)(torch.rand(2, 3, *SHAPE[1:]), labels, weight)
    torch.compiler.reset()


def _train(rank: int, world: int, folder: str) -> None:
    """Two steps of a loop of one process among some, on its share of the batch."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    torch.manual_seed(0)
    network = nn.Conv2d(C, C, 1)
    wrapped = DistributedDataParallel(network) if world > 1 else network
    loss, optimizer = balanced(), torch.optim.SGD(network.parameters(), 0.5)
    for seed in range(3):
        z, y, w, mask = (each.tensor_split(world)[rank] for each in batch(seed, (4, 12, 16)))
        for domain in ("source", "target"):
            logits = wrapped(z)
            value = loss.source_loss(logits, y) if domain == "source" else loss.target_loss(logits, y, w, mask)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    torch.save({"loss": loss.state_dict(), "network": network.state_dict()}, f"{folder}/{world}.{rank}.pt")
    if world > 1:
        dist.destroy_process_group()


def test_two_processes_hold_the_statistics_of_one_with_the_whole_batch(tmp_path: Path) -> None:
    _train(0, 1, str(tmp_path))
    mp.spawn(_train, (2, str(tmp_path)), nprocs=2)
    one, first, second = (torch.load(tmp_path / name) for name in ("1.0.pt", "2.0.pt", "2.1.pt"))
    for part in ("loss", "network"):
        assert same(list(first[part].values()), list(second[part].values()))
        torch.testing.assert_close(first[part], one[part], atol=1e-5, rtol=1e-4)


Z, Y = torch.randn(2, C, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64)
WRONG = {
    "an axis of channels": (Z, Y[:, None], r"squeeze\(1\)"),
    "one-hot labels": (Z, torch.zeros(2, C, 8, 8, dtype=torch.int64), r"argmax\(1\)"),
    "float labels": (Z, Y.float(), "labels are torch.float32; give a tensor of integers"),
    "labels of another size": (Z, torch.zeros(2, 32, 32, dtype=torch.int64), r"F.interpolate\(logits, labels.shape"),
    "labels of another batch": (Z, Y[:1], "one label a pixel"),
    "labels that are no tensor": (Z, [0, 1], "tensor of integers"),
    "no batch": (Z[0], Y[0], r"logits\[None\]"),
    "channels last": (Z.movedim(1, -1), Y, "permute"),
    "fewer classes": (Z[:, :3], Y, "have 3 channels, expected 4 classes; give"),
    "more classes": (torch.randn(2, 19, 8, 8), Y, "have 19 channels, expected 4 classes; give"),
    "integer logits": (Z.long(), Y, "logits are torch.int64; give floats"),
    "a class too many": (Z, Y + C, "label 4 is outside"),
    "negative labels": (Z, Y - 1, "label -1 is outside"),
    "another device": (Z, Y.to("meta"), "move them to one device"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_is_one_line_with_the_fix(what: str) -> None:
    logits, labels, message = WRONG[what]
    loss = balanced()
    for call in (loss.source_loss, loss.target_loss):
        with pytest.raises(ValueError, match=message) as error:
            call(logits, labels)
        assert "\n" not in str(error.value)
    assert loss.source_statistics.updates == loss.target_statistics.updates == 0


def test_wrong_weights_masks_and_settings_are_refused() -> None:
    loss = balanced()
    for weight in (torch.ones(2), torch.ones(2, 1, 8, 8), 1.0):
        with pytest.raises(ValueError, match=r"weight .* one number a pixel"):
            loss.target_loss(Z, Y, weight)
    for mask in (Y, torch.ones(2, 8, 7, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"from_source .* one bool a pixel"):
            loss.target_loss(Z, Y, None, mask)
    for tau in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="tau is"):
            BalancedLoss(C, tau)
    with pytest.raises(ValueError, match="256 classes"):
        BalancedLoss(256)
    with pytest.raises(TypeError, match="call source_loss"):
        loss(Z, Y)


@pytest.mark.cuda
def test_a_loss_left_on_the_cpu_says_so() -> None:
    with pytest.raises(ValueError, match="balanced loss on cpu, the rest on cuda"):
        balanced().source_loss(Z.cuda(), Y.cuda())
    assert balanced().cuda().source_loss(Z.cuda(), Y.cuda()).isfinite()

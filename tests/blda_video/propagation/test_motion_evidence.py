"""Evidence of the flow: Bayes' rule on pseudo-labels, what leaves them alone, and the network's file."""

import pytest
import torch

from blda_video.clips.clip import Clip
from blda_video.propagation.averaging_rules import KeyAlone
from blda_video.propagation.motion_evidence import MotionEvidence
from blda_video.propagation.motion_network import MotionNetwork, _features
from blda_video.propagation.propagated_labels import PropagatedLabels

CLASSES = ("road", "car", "sky", "train")


def _clip(offset=(-1, 1), seed=0) -> Clip:
    g = torch.Generator().manual_seed(seed)
    image, flow = torch.rand(2, 3, 24, 40, generator=g), torch.randn(2, len(offset), 2, 24, 40, generator=g)
    valid = torch.rand(2, len(offset), 24, 40, generator=g) > 0.2
    context = torch.rand(2, len(offset), 3, 24, 40, generator=g)
    return Clip(image, None, ("a", "b"), (0, 1), context=context, flow=flow, valid=valid, offset=offset)


def _network(offsets=(-1, 1)) -> MotionNetwork:
    torch.manual_seed(0)
    network = MotionNetwork(CLASSES, offsets).eval().requires_grad_(False)
    network.count.copy_(torch.tensor([60, 30, 10, 0]))
    return network


def _probabilities(seed=0) -> torch.Tensor:
    return (2 * torch.randn(2, 4, 24, 40, generator=torch.Generator().manual_seed(seed))).softmax(1)


def test_it_is_bayes_rule_without_the_classes_that_the_source_lacks():
    network, clip, before = _network(), _clip(), _probabilities()
    after = MotionEvidence(network, 0.5, clip.offset)(before, clip)
    told = network(clip.flow, clip.valid).softmax(1)
    share = torch.tensor([0.6, 0.3, 0.1, 1.0])[:, None, None]
    expected = before * (told / share) ** 0.5 * torch.tensor([1.0, 1, 1, 0])[:, None, None]
    torch.testing.assert_close(after, expected / expected.sum(1, keepdim=True), atol=1e-5, rtol=1e-3)
    assert not torch.equal(after.argmax(1), before.argmax(1))


def test_power_zero_only_drops_the_classes_that_the_source_lacks():
    clip, before = _clip(), _probabilities()
    after = MotionEvidence(_network(), 0, clip.offset)(before, clip)
    torch.testing.assert_close(after[:, :3], before[:, :3] / before[:, :3].sum(1, keepdim=True), atol=1e-5, rtol=1e-4)
    assert not after[:, 3].any()


def test_an_image_without_valid_flow_keeps_its_probabilities_bit_for_bit():
    clip, before = _clip(), _probabilities()
    clip.valid[0] = False
    after = MotionEvidence(_network(), 0.7, clip.offset)(before, clip)
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])


def test_an_image_does_not_depend_on_its_batch_nor_on_further_offsets():
    clip, before = _clip(), _probabilities()
    whole = MotionEvidence(_network(), 0.7, clip.offset)(before, clip)
    more = Clip(
        **{
            **clip.__dict__,
            "flow": torch.cat((clip.flow[:, :1], 9 * clip.flow[:, :1], clip.flow[:, 1:]), 1)[1:],
            "valid": torch.cat((clip.valid[:, :1], clip.valid[:, :1], clip.valid[:, 1:]), 1)[1:],
            "offset": (-1, 4, 1),
        }
    )
    alone = MotionEvidence(_network(), 0.7, more.offset)(before[1:], more)
    torch.testing.assert_close(alone, whole[1:], atol=1e-5, rtol=1e-4)


def test_pseudo_labels_and_their_probabilities_follow_the_evidence():
    clip = _clip()

    def teacher(image):
        return torch.cat((image, image.mean(1, keepdim=True)), 1) * 3

    evidence = MotionEvidence(_network(), 0.7, clip.offset)
    plain, moved = (PropagatedLabels(KeyAlone(), 0.4, motion=each)(teacher, clip) for each in (None, evidence))
    expected = evidence(plain.probabilities, clip)
    assert torch.equal(moved.probabilities, expected)
    assert torch.equal(moved.label, expected.argmax(1))
    assert not torch.equal(moved.label, plain.label)
    torch.testing.assert_close(moved.weight[:, 0, 0], (expected.amax(1) >= 0.4).float().mean((1, 2)))


@pytest.mark.parametrize("size", [(24, 40), (33, 47), (5, 7), (1, 1)])
def test_the_network_takes_any_size_and_a_standing_camera(size):
    network = _network()
    logits = network(torch.zeros(1, 2, 2, *size), torch.ones(1, 2, *size, dtype=torch.bool))
    assert logits.shape == (1, 4, *size)
    assert logits.isfinite().all()


def test_the_cameras_speed_is_taken_out_of_one_half_of_the_inputs_and_left_in_the_other():
    clip = _clip()
    slow, fast = (_features(factor * clip.flow, clip.valid).view(2, 2, 5, 24, 40) for factor in (1, 3))
    torch.testing.assert_close(slow[:, :, 2:4], fast[:, :, 2:4])
    assert not torch.allclose(slow[:, :, :2], fast[:, :, :2])
    assert torch.equal(slow[:, :, 4], clip.valid.float())


def test_a_file_gives_the_network_back(tmp_path):
    network, clip = _network(), _clip()
    network.save(tmp_path / "motion.pt")
    loaded = MotionNetwork.load(tmp_path / "motion.pt", CLASSES)
    assert torch.equal(loaded(clip.flow, clip.valid), network(clip.flow, clip.valid))
    assert (loaded.offsets, loaded.count.tolist(), loaded.training) == ((-1, 1), [60, 30, 10, 0], False)


def test_files_that_are_none_or_of_another_run_are_refused(tmp_path):
    path = tmp_path / "motion.pt"
    with pytest.raises(FileNotFoundError, match=r"no file .*motion\.pt; make it with blda train-motion"):
        MotionNetwork.load(path, CLASSES)
    _network().save(path)
    with pytest.raises(ValueError, match=r"knows the classes road, car, sky, train; this run has road, car, sky"):
        MotionNetwork.load(path, CLASSES[:3])
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ValueError, match=r"motion\.pt is damaged or of another kind"):
        MotionNetwork.load(path, CLASSES)
    torch.save({"weights": {}}, path)
    with pytest.raises(ValueError, match=r"motion\.pt holds no motion network"):
        MotionNetwork.load(path, CLASSES)
    with pytest.raises(ValueError, match=r"flow to the frames at \[-1, 1\], and the run has offsets \[-1\]; add \[1\]"):
        MotionEvidence(_network(), 0.7, (-1,))

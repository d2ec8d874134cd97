"""benchmarks/video_fusion.py: which frames are streamed, and that its numbers are those of FusedStream."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import video_fusion
from blda.build.run import Run
from blda.config import loading
from blda.data.readers.frames import Frame
from blda.data.sample import IGNORE
from blda.data.segmentation_dataset import image_tensor, label_tensor, read_frame
from blda.engine import checkpoint, runtime
from blda.engine.inference import Predictor
from blda_video.build import video_run
from blda_video.clips.readers.cityscapes_sequence import CityscapesSequence
from blda_video.config import VideoConfig, WorldSpec
from blda_video.flow.flow_geometry import consistent, warp_labels
from blda_video.flow.flow_store import FlowStore
from blda_video.stream.fused_stream import FusedStream
from blda_video.street_world.simulator.world import World
from blda_video.street_world.world_writer import make, sequence_seed

CONFIG = """
run: run
classes: cityscapes19
source: {reader: {name: folder, images: nowhere}, crop: [32, 32]}
target: {reader: {name: folder, images: nowhere}, crop: [32, 32]}
evaluation: {reader: {name: cityscapes_seq, root: WORLD, split: val}, protocols: [viper15]}
model:
  encoder: {name: small, channels: [8, 8, 8, 8]}
  head: {name: daformer, embed: 8}
flow: {name: store, root: WORLD/flow}
log: {bar: false}
"""
SIZE, FRAMES = (48, 96), 8


def _spec(root: Path) -> WorldSpec:
    """Two drives with labels of some frames and exact flow."""
    return WorldSpec(root, "cityscapes_seq", "target", "val", 2, FRAMES, SIZE, labelled=(3, 6, 7), flow=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("world") / "city"
    make(_spec(root), progress=False)
    return root


@pytest.fixture(scope="module")
def run(world, tmp_path_factory) -> Path:
    """A checkpoint of a network whose predictions differ from place to place."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.yaml").write_text(CONFIG.replace("WORLD", str(world)), encoding="utf-8")
    student = _composed(folder).networks.student()
    weight = student.head.classifier.weight.detach().normal_(generator=torch.Generator().manual_seed(0))
    weight -= weight.mean(1, keepdim=True)
    checkpoint.save(folder / "step_000001.pt", {"student": student})
    return folder / "step_000001.pt"


def _composed(folder: Path, *overrides: str) -> Run:
    return video_run(loading.load(folder / "config.yaml", VideoConfig, overrides), runtime.start("no"))


def _main(monkeypatch, capsys, *arguments: object) -> dict:
    monkeypatch.setattr(sys, "argv", ["video_fusion.py", *map(str, arguments)])
    video_fusion.main()
    return json.loads(capsys.readouterr().out)


def _error(monkeypatch, *arguments: object) -> str:
    monkeypatch.setattr(sys, "argv", ["video_fusion.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        video_fusion.main()
    message = str(stopped.value.code)
    assert message.startswith("error: ") and "\n" not in message
    return message


class Counted:
    """A reader of one video of frames 0 to 29, without files."""

    def __init__(self, labelled: range | tuple[int, ...]) -> None:
        self.frames = tuple(Frame(str(i), Path(f"{i}.png"), Path(f"{i}_label.png")) for i in labelled)

    def neighbour(self, frame: Frame, offset: int) -> Frame | None:
        i = int(frame.name) + offset
        return Frame(str(i), Path(f"{i}.png"), None) if 0 <= i < 30 else None


@pytest.mark.parametrize(
    ("labelled", "history", "expected"),
    [
        ((19,), 10, [range(9, 20)]),
        ((4,), 10, [range(5)]),
        ((9, 19), 4, [range(5, 10), range(15, 20)]),
        ((9, 19), 9, [range(20)]),
        (range(30), 10, [range(30)]),
        (range(30), 0, [range(30)]),
        ((3, 20), 0, [[3], [20]]),
    ],
)
def test_every_frame_is_streamed_once_after_those_before_it(labelled, history, expected):
    reader = Counted(labelled)
    found = video_fusion.videos(reader, reader.frames, history)
    assert [[int(frame.name) for frame in video] for video in found] == [list(each) for each in expected]
    assert [frame.name for video in found for frame in video if frame.label] == [str(i) for i in labelled]


def test_labelled_frames_that_are_not_chosen_are_not_scored():
    chosen = video_fusion.labelled(Counted(range(30)), 3)
    assert [frame.name for frame in chosen] == ["0", "14", "29"]
    videos = video_fusion.videos(Counted(range(30)), chosen, 5)
    assert [frame.name for video in videos for frame in video if frame.label] == ["0", "14", "29"]


def test_decay_zero_is_alone_and_all_numbers_are_those_of_a_direct_loop(run, world, monkeypatch, capsys):
    found = _main(monkeypatch, capsys, run, "--history", 1, "--decay", 0, 0.8)
    assert (found["videos"], found["streamed"], found["labelled"]) == (4, 10, 6)
    assert found["streams"]["0"] == found["streams"]["alone"]
    assert found["streams"]["0.8"]["mIoU"] != found["streams"]["alone"]["mIoU"]

    parts = _composed(run.parent)
    student = parts.networks.student()
    checkpoint.restore(run, checkpoint.read(run), {"student": student})
    reader = parts.data.readers.evaluation()
    for name, decay in (("alone", 0.0), ("0.8", 0.8)):
        expected = _direct(parts, reader, parts.evaluation.predictor(student), decay)
        # A pixel whose two likeliest classes tie may fall to either: one more or less of some thousands.
        assert {key: found["streams"][name][key] for key in expected} == pytest.approx(expected, abs=0.1)


def _direct(parts: Run, reader: CityscapesSequence, predict: Predictor, decay: float) -> dict[str, float]:
    """mIoU and consistency of history 1, without anything of the benchmark."""
    counts, same, seen = torch.zeros(19, 19), 0, 0
    before = (reader.neighbour(frame, -1) for frame in reader.frames)
    frames = {frame.name: frame for frame in (*before, *reader.frames)}
    for drive in {name.rsplit("_", 1)[0] for name in frames}:
        for numbers in ((2, 3), (5, 6, 7)):
            lookup = parts.data.readers.evaluation_lookup(reader)
            video = [read_frame(reader, lookup, frames[f"{drive}_{i:06d}"]) for i in numbers]
            flow = _Between([image_tensor(pixels) for pixels, _ in video], drive, numbers, parts.data.flow())
            stream, last = FusedStream(predict, flow, decay), None
            for t, (image, (_, truth)) in enumerate(zip(flow.images, video, strict=True)):
                label = stream(image).argmax(1)
                if truth is not None:
                    known = label_tensor(truth) != IGNORE
                    counts.index_put_((label_tensor(truth)[known], label[known]), torch.ones(()), accumulate=True)
                if t:
                    there, back = flow(image, flow.images[t - 1]), flow(flow.images[t - 1], image)
                    valid = consistent(there, back)
                    same += int((valid & (warp_labels(last, there, IGNORE) == label)).sum())
                    seen += int(valid.sum())
                last = label
    score = parts.protocols[0].scores(counts.double(), parts.class_names)["mIoU"]
    return {"mIoU": round(score, 2), "consistency": round(100 * same / seen, 2)}


class _Between:
    """Stored flow between images of a drive."""

    def __init__(self, images: list[torch.Tensor], drive: str, numbers: tuple[int, ...], store: FlowStore) -> None:
        self.images, self.store = images, store
        self.names = {id(image): f"{drive}_{i:06d}" for image, i in zip(images, numbers, strict=True)}

    def __call__(self, image: torch.Tensor, neighbour: torch.Tensor) -> torch.Tensor:
        return self.store.read(self.names[id(image)], self.names[id(neighbour)])


def test_changing_noise_is_averaged_away_with_one_prediction_a_frame(run):
    asked = []

    def predict(image: torch.Tensor) -> torch.Tensor:
        """Return what the world knows of each next frame, in loud noise."""
        asked.append(image)
        drive, number = divmod(len(asked) - 1, FRAMES)
        truth = label_tensor(World("target", sequence_seed(_spec(Path()), drive), SIZE, FRAMES).frame(number).label)
        logits = torch.nn.functional.one_hot(truth, 19).movedim(-1, 1).float()
        noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(len(asked)))
        return 3 * logits + 2 * noise

    found = video_fusion.measure(_composed(run.parent), predict, [0.8], 10, None)
    assert len(asked) == found["streamed"] == 2 * FRAMES
    assert found["streams"]["alone"]["gain"] == found["streams"]["alone"]["steadier"] == 0
    assert found["streams"]["0.8"]["gain"] > 10
    assert found["streams"]["0.8"]["steadier"] > 10


def test_an_estimator_is_named_and_flow_of_a_store_fits_smaller_images(run, monkeypatch, capsys):
    found = _main(monkeypatch, capsys, run, "--flow", "dis-fast", "--frames", 2, "--history", 1, "--decay", 0.5)
    assert found["flow"] == {"name": "dis", "preset": "fast"}
    assert (found["videos"], found["streamed"]) == (2, 4)
    found = _main(monkeypatch, capsys, run, "evaluation.size=[40,80]", "--decay", 0.5)
    assert found["flow"]["name"] == "store"
    assert 0 < found["streams"]["0.5"]["consistency"] <= 100
    found = _main(monkeypatch, capsys, run, "--frames", 1, "--history", 0, "--decay", 0.5)
    assert found["streams"]["0.5"]["consistency"] is None, "nothing follows anything"


def test_mistakes_are_one_line(run, world, tmp_path, monkeypatch):
    assert "no checkpoint" in _error(monkeypatch, tmp_path / "step_000001.pt")
    assert "decay is 1.0" in _error(monkeypatch, run, "--decay", 1)
    assert "--frames 0" in _error(monkeypatch, run, "--frames", 0)
    assert "--history is -1" in _error(monkeypatch, run, "--history", -1)
    assert "diss" in _error(monkeypatch, run, "--flow", "diss")
    assert "not valid YAML" in _error(monkeypatch, run, "--flow", "{name: dis")
    assert "no flow" in _error(monkeypatch, run, "--flow", f"{{name: store, root: {tmp_path}}}")
    (tmp_path / "gtFine").symlink_to(world / "gtFine")
    for label in (world / "gtFine").rglob("*_labelIds.png"):
        name = f"val/streetworld/{label.name.replace('gtFine_labelIds', 'leftImg8bit')}"
        (tmp_path / "leftImg8bit" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "leftImg8bit" / name).symlink_to(world / "leftImg8bit_sequence" / name)
    still = f"evaluation.reader={{name: cityscapes, root: {tmp_path}, split: val}}"
    assert "Cityscapes knows no neighbouring frames" in _error(monkeypatch, run, still)
    images = f"evaluation.reader={{name: folder, images: {world}, image_suffix: .png}}"
    assert "labels" in _error(monkeypatch, run, images)
    with pytest.raises(ValueError, match="no labelled frame"):
        video_fusion.labelled(Counted(()), None)

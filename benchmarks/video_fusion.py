"""Measure the gain of fusing a video's predictions along the flow; prints JSON.

    python benchmarks/video_fusion.py CHECKPOINT [key=value ...] --decay 0 0.5 0.8 0.9 [--flow dis-medium] [--frames N]
    python benchmarks/video_fusion.py CHECKPOINT evaluation.reader.root=DIR --flow '{name: store, root: DIR}'

The videos of the run's evaluation data are predicted frame by frame, in order: alone, and fused with each decay as
blda predict --fuse does. Up to --history frames before each labelled one are streamed, every frame once, and
predicted once for all streams. key=value replaces any key of the run's config. --flow is an estimator's name or
mapping, or a store of flow between consecutive frames; by default the run's.

In percent, by the run's first protocol, on labelled frames: mIoU, iou/CLASS, and M5, the mIoU of pixels whose
prediction equals that of the frame before. Over all pairs of consecutive frames, where flow is valid (METHOD 7):
`consistency`, the share of such pixels, and temporal_mIoU. `gain` and `steadier` are mIoU and consistency minus those
of `alone`. Labels are used for measuring only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from blda import atomic
from blda.build.run import Run
from blda.data.readers.frames import Frame
from blda.data.sample import Sample
from blda.data.segmentation_dataset import image_tensor, label_tensor, read_frame
from blda.data.transforms import whole
from blda.engine.metrics import MeanIoU
from blda_video.build import ESTIMATORS
from blda_video.clips.clip import Clip
from blda_video.clips.route import VideoReader
from blda_video.flow.estimator_names import component_of
from blda_video.flow.flow_geometry import consistent, resize
from blda_video.flow.flow_store import StoredFlow
from blda_video.jobs.restored_run import restored
from blda_video.stream.fused_stream import FusedStream
from blda_video.temporal_metrics import TemporalConsistency
from runs import circumstances

ALONE = "alone"
SHOWN = ("mIoU", "gain", "consistency", "steadier", "temporal_mIoU", "M5")


def videos(reader: VideoReader, labelled: Iterable[Frame], history: int) -> list[list[Frame]]:
    """List the labelled frames and up to `history` before each, without repetition, as runs of consecutive frames."""
    wanted = {frame.name: frame for frame in labelled}
    for frame in tuple(wanted.values()):
        for offset in range(1, history + 1):
            if (before := reader.neighbour(frame, -offset)) is None:
                break
            wanted.setdefault(before.name, before)
    before = {name: reader.neighbour(frame, -1) for name, frame in wanted.items()}
    after = {each.name: wanted[name] for name, each in before.items() if each is not None}
    found = [[frame] for name, frame in wanted.items() if before[name] is None or before[name].name not in wanted]
    for run in found:
        while (following := after.get(run[-1].name)) is not None:
            run.append(following)
    return found


def samples(run: Run, reader: VideoReader, video: Sequence[Frame]) -> Iterator[tuple[Sample, Tensor | None]]:
    """Yield every frame with the one before (the first alone) and the flow (1, 2, H, W) between them.

    Only frames to be scored have a label. Raises ValueError when two differ in size.
    """
    lookup, flow = run.data.readers.evaluation_lookup(reader), run.data.flow()
    size, device = run.data.readers.resize("evaluation"), run.accelerator.device

    def motion(image: Tensor, neighbour: Tensor, start: Frame, end: Frame) -> Tensor:
        if not isinstance(flow, StoredFlow):
            return flow(image, neighbour)
        return resize(flow.read(start.name, end.name), image.shape[-2:]).to(device)

    before, past = None, None
    for frame in video:
        pixels, label = read_frame(reader, lookup, frame)
        image = image_tensor(whole(size(pixels.shape[:2])).image(pixels)).to(device)
        sample = (image, None if label is None else label_tensor(label).to(device), (frame.name,), (0,))
        if before is None:
            yield Sample(*sample), None
        elif past.shape != image.shape:
            raise ValueError(f"frames {before.image} and {frame.image} differ in size; give evaluation.size=[H,W]")
        else:
            there, back = motion(image, past, frame, before), motion(past, image, before, frame)
            yield Clip(*sample, past[:, None], there[:, None], consistent(there, back)[:, None], (-1,)), back
        before, past = frame, image


class Streams:
    """Streams of one video: frames alone, and fused with each decay; every frame is predicted once for all streams."""

    def __init__(self, predict: Callable[[Tensor], Tensor], decays: Iterable[float]) -> None:
        self.predict = predict
        self.fused = {f"{decay:g}": FusedStream(lambda _: self._logits, self._flow, decay) for decay in decays}

    def reset(self) -> None:
        """Start another video."""
        for stream in self.fused.values():
            stream.reset()

    def __call__(self, sample: Sample, back: Tensor | None) -> dict[str, Tensor]:
        """Log-probabilities (1, C, H, W) of the next of `samples` by each stream's name."""
        self._sample, self._back, self._logits = sample, back, self.predict(sample.image)
        fused = {name: stream(sample.image) for name, stream in self.fused.items()}
        return {ALONE: self._logits.log_softmax(1), **fused}

    def _flow(self, image: Tensor, neighbour: Tensor) -> Tensor:
        return self._sample.flow[:, 0] if image is self._sample.image else self._back


def measure(
    run: Run, predict: Callable[[Tensor], Tensor], decays: Iterable[float], history: int, count: int | None
) -> dict[str, object]:
    """Measure every stream. count: labelled frames, evenly spread; None for all."""
    reader = run.data.readers.evaluation()
    chosen, streams = labelled(reader, count), Streams(predict, decays)
    found = videos(reader, chosen, history)
    about = run.class_names, run.protocols[:1]
    metrics = {name: (MeanIoU(*about), TemporalConsistency(*about)) for name in (ALONE, *streams.fused)}
    for video in tqdm(found, desc="videos"):
        streams.reset()
        past: dict[str, Tensor] = {}
        for sample, back in samples(run, reader, video):
            now = streams(sample, back)
            for name, (accuracy, steadiness) in metrics.items():
                said = past.get(name)  # of the frame before
                steadiness.update(sample, now[name], lambda _, said=said: said)
                if sample.label is not None:
                    accuracy.update(sample, now[name], predict)
            past = now
    numbers = {name: {k: v for each in pair for k, v in each.compute().items()} for name, pair in metrics.items()}
    shown = {name: compared(own, numbers[ALONE]) for name, own in numbers.items()}
    return {"videos": len(found), "streamed": sum(map(len, found)), "labelled": len(chosen), "streams": shown}


def labelled(reader: VideoReader, count: int | None) -> list[Frame]:
    """The frames to score. Raises ValueError when there are none, or the reader knows no neighbours."""
    if not hasattr(reader, "neighbour"):
        raise ValueError(f"evaluation.reader: {type(reader).__name__} knows no neighbouring frames; give one of video")
    known = [frame for frame in reader.frames if frame.label is not None]
    if not known:
        raise ValueError("evaluation.reader has no labelled frame, so nothing can be scored; give its labels")
    spread = torch.linspace(0, len(known) - 1, min(count or len(known), len(known)))
    return [known[i] for i in spread.round().long().tolist()]


def compared(own: dict[str, float], alone: dict[str, float]) -> dict[str, float | None]:
    """Numbers of a stream to print; None where no pixel was counted."""
    full = {**own, "gain": own["mIoU"] - alone["mIoU"], "steadier": own["consistency"] - alone["consistency"]}
    kept = (*SHOWN, *(key for key in own if key.startswith("iou/")))
    return atomic.finite({key: round(full[key], 2) for key in kept})


def main() -> None:
    """Read the arguments, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="step_*.pt in a run's folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key of the run's config")
    parser.add_argument("--decay", type=float, nargs="+", default=[0.5, 0.8, 0.9], help="of fusion, one stream each")
    parser.add_argument("--flow", help="an estimator's name such as dis-medium, or a part; default: the run's")
    parser.add_argument("--frames", type=int, help="labelled frames to score, evenly spread (default: all)")
    parser.add_argument("--history", type=int, default=10, help="frames streamed before each labelled one")
    given = parser.parse_intermixed_args()
    try:
        if given.history < 0 or (given.frames is not None and given.frames < 1):
            raise ValueError(f"--history is {given.history}, --frames {given.frames}; they must be at least 0 and 1")
        named = given.flow and not given.flow.startswith("{")
        flow = [f"flow={component_of(given.flow, ESTIMATORS) if named else given.flow}"] if given.flow else []
        # Any key of video's makes the readers of an image run those of video.
        run, student = restored(given.checkpoint, [*given.overrides, *flow, "consistency=[]"])
        found = measure(run, run.evaluation.predictor(student), given.decay, given.history, given.frames)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    settings = {
        "benchmark": "video_fusion",
        "checkpoint": str(given.checkpoint),
        "data": run.config.evaluation.reader,
        "flow": run.config.flow,
        "history": given.history,
        "protocol": run.protocols[0].name,
    }
    print(json.dumps({**settings, **found, **circumstances()}, indent=1, default=str))


if __name__ == "__main__":
    main()

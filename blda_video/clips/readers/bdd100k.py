"""BDD100k videos around the labelled images of BDD10k, as downloaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blda.data.readers.cityscapes import TRAIN_IDS
from blda.data.readers.decoding import read_ids
from blda.data.readers.frames import Frame, existing_folder, natural_key, read_split, require
from blda.data.readers.walk import files_below, with_suffixes
from blda_video.clips.video_files.video_file import VideoFile

LABELLED = 10.0
"""Second of a video that the labelled image shows, as the owners say."""
SUFFIXES = (".mov", ".mp4")


@dataclass(frozen=True)
class Moment(Frame):
    """The frame `offset` frames after the labelled one; its number is known only once the video is open."""

    video: VideoFile
    frame: int | None
    offset: int

    def read(self) -> np.ndarray:
        """Pixels of the frame, (H, W, 3) uint8 RGB, turned upright."""
        key = self.video.index.nearest(LABELLED) if self.frame is None else self.frame
        return self.video.read(key + self.offset)


class BDD100k:
    """`videos/**/<id>.mov` with `images/10k/<split>/<id>.jpg` and `labels/sem_seg/masks/<split>/<id>.png`.

    root: the folder `bdd100k` of the archives. The videos may lie in any folders below `videos`, as the parts unpack.
    labelled=True: the images of BDD10k that have a video, with their labels (trainIds). labelled=False: the frames of
    the videos at that time; no image or label is needed, but `ids` or `images/10k` may choose the videos.
    split: of BDD10k: train or val. The published benchmark draws both its parts from train.
    ids: text file of video ids, one a line, such as UnifiedVideoDA's valid_imgs_val.txt; a trailing _307 is left out.
        None: all images of the split; without `images/10k/<split>`, all videos below `videos/<split>`.
    frame: number of the labelled frame, counted from 0, in every video; None: the frame nearest to 10 s.
        UnifiedVideoDA takes 307.
    """

    label_map: Mapping[int, str] = TRAIN_IDS
    ignored: Collection[int] = (255,)

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        labelled: bool = True,
        ids: str | Path | None = None,
        frame: int | None = None,
    ) -> None:
        self.root, self.frame = Path(root), frame
        videos = _videos(existing_folder(self.root / "videos", "extract the videos of BDD100k"))
        wanted = self._wanted(split, ids, labelled, videos)
        self.videos = {f"{split}/{key}": VideoFile(videos[key]) for key in wanted if key in videos}
        if not self.videos:
            raise ValueError(f"none of {len(wanted)} images of BDD10k {split} has a video below {self.root / 'videos'}")
        make = self._image if labelled else self._moment
        self.frames = require(map(make, self.videos), "extract images and labels of BDD10k")

    def neighbour(self, frame: Frame, offset: int) -> Frame:
        """The frame of the video `offset` frames later; whether the video is that long shows when it is read."""
        return self._moment(frame.name, offset)

    def read_label(self, path: Path) -> np.ndarray:
        """trainIds (H, W)."""
        return read_ids(path)

    def _wanted(self, split: str, ids: str | Path | None, labelled: bool, videos: Mapping[str, Path]) -> Sequence[str]:
        """Ids of the requested videos, in natural order; some of them may be absent."""
        if ids is not None:
            return [name.removesuffix("_307") for name in read_split(ids)]
        images = self.root / "images" / "10k" / split
        if labelled or images.is_dir():
            files = files_below(existing_folder(images, "extract BDD10k's images"), "extract it again", deep=False)
            result = [file.rpartition(".")[0] for file in with_suffixes(files, (".jpg",))]
        else:
            parts = (self.root / "videos" / split).parts
            result = [key for key, path in videos.items() if path.parts[: len(parts)] == parts]
        return sorted(result, key=natural_key)

    def _image(self, name: str) -> Frame:
        masks = self.root / "labels" / "sem_seg" / "masks"
        return Frame(name, self.root / "images" / "10k" / f"{name}.jpg", masks / f"{name}.png")

    def _moment(self, name: str, offset: int = 0) -> Moment:
        video = self.videos[name]
        return Moment(f"{name}/{offset:+d}" if offset else name, video.path, None, video, self.frame, offset)


def _videos(folder: Path) -> dict[str, Path]:
    """Map the id of every video to its file."""
    files = with_suffixes(files_below(folder, "extract the videos of BDD100k there"), SUFFIXES)
    videos = {Path(file).stem: folder / file for file in sorted(files)}
    if not videos:
        raise FileNotFoundError(f"no video {folder}/**/*{SUFFIXES[0]}; extract the videos of BDD100k there")
    return videos

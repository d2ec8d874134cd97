"""Reader of class folders: the folder that an image lies in names its class."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from blda import text
from blda.data.readers.frames import Frame, existing_folder, natural_key
from blda.data.readers.walk import files_below, is_left_out, with_suffixes
from blda.spelling import nearest

SUFFIXES = (".jpg", ".jpeg", ".png")
"""Of images, in small or capital letters."""


class ClassFolders:
    """Images `<images>/<class>/**/*.png`, for example VisDA-2017's `train` and `validation`.

    classes: the folders' names, in the order of their ids. ignored: folders to leave out; any other folder is an error.
    listing: text file with one `<path below images> <id>` a line, as VisDA-2017's `image_list.txt`. It serves where
    folders do not name the classes (`test/trunk*`) or only some images are wanted.
    labelled: False takes all images below `images`, or those of the listing, without looking at folders and ids; their
    order is that of the file names alone.

    A frame's label is its image's path, from which `read_label` knows the class. Raises FileNotFoundError or ValueError
    naming the folder, the file or the line, and the fix.
    """

    ignored: Collection[int] = ()

    def __init__(
        self,
        images: str | Path,
        classes: Sequence[str],
        ignored: Sequence[str] = (),
        listing: str | Path | None = None,
        labelled: bool = True,
    ) -> None:
        self.images = existing_folder(images, "check the data set's images folder")
        self.label_map: Mapping[int, str] = dict(enumerate(classes))
        self._id_of: dict[Path, int] = {}
        if labelled:
            shown = _listed_ids(self.images, Path(listing), self.label_map) if listing else self._folder_ids(ignored)
            names = sorted(shown, key=natural_key)
            self._id_of = {self.images / name: index for name, index in shown.items()}
        else:
            names = _listed(self.images, Path(listing)) if listing else _images_below(self.images)
            names = sorted(names, key=_by_file_name)
        if not names:
            raise ValueError(
                f"no image ({', '.join(SUFFIXES)}) of {listing or self.images}; check the data set's folder"
            )
        paths = ((name.rsplit(".", 1)[0], self.images / name) for name in names)
        self.frames = tuple(Frame(name, path, path if labelled else None) for name, path in paths)

    def read_label(self, path: Path) -> np.ndarray:
        """Return the class id of an image, shape ()."""
        return np.asarray(self._id_of[path])

    def _folder_ids(self, ignored: Sequence[str]) -> dict[str, int]:
        classes = tuple(self.label_map.values())
        for item in sorted(self.images.iterdir()):
            if item.is_dir() and not is_left_out(item.name) and item.name not in (*classes, *ignored):
                raise ValueError(
                    f"folder {item} is no class of the data set ({nearest(item.name, classes)}); add it to the "
                    "reader's classes or ignored, or move it away"
                )
        shown = {}
        for index, name in self.label_map.items():
            folder = existing_folder(self.images / name, "extract it, or take the class out of the reader's classes")
            result = _images_below(folder)
            if not result:
                raise ValueError(f"class folder {folder} holds no image ({', '.join(SUFFIXES)}); extract it again")
            shown.update((f"{name}/{image}", index) for image in result)
        return shown


def _by_file_name(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Sort key by file name; folders only decide between two files of the same name."""
    return natural_key(name.rsplit("/", 1)[-1]), name


def _images_below(folder: Path) -> list[str]:
    """List the images below a folder: relative paths with suffix; see `walk`."""
    return with_suffixes(files_below(folder, "check its permissions"), SUFFIXES)


def _lines(images: Path, listing: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, image and id text of every line of a listing that is not blank.

    Raises FileNotFoundError when the listing or an image is missing.
    """
    if not listing.is_file():
        raise FileNotFoundError(f"no listing {listing}; write '<path below images> <id>' a line, or leave it out")
    for number, line in enumerate(text.read_lines(listing, any_bytes=True), 1):
        name, _, rest = line.strip().rpartition(" ")
        if rest and not name:
            raise ValueError(f"line {number} of {listing} is '{line}'; write '<path below images> <id>'")
        if rest and not (images / name).is_file():
            raise FileNotFoundError(
                f"no image {images / name} (line {number} of {listing}); extract it, or cut the line"
            )
        if rest:
            yield number, name, rest


def _listed(images: Path, listing: Path) -> list[str]:
    """List the images of a listing, without looking at their ids."""
    return [name for _, name, _ in _lines(images, listing)]


def _listed_ids(images: Path, listing: Path, ids: Mapping[int, str]) -> dict[str, int]:
    shown = {}
    for number, name, rest in _lines(images, listing):
        index = int(rest) if rest.isdigit() else -1
        if index not in ids:
            raise ValueError(f"line {number} of {listing} ends in '{rest}'; write an id from 0 to {len(ids) - 1}")
        folder = name.split("/", 1)[0]
        if folder in ids.values() and folder != ids[index]:
            raise ValueError(
                f"line {number} of {listing} says that {name} shows {ids[index]}; bring the reader's classes into the "
                "listing's order"
            )
        shown[name] = index
    return shown

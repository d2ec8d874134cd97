"""Configs that ship with the package, found by name from any folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import blda_video
from blda.config.loading import SUFFIXES
from blda.spelling import nearest


def folder() -> Path:
    """Return the folder of the shipped configs: of an installed package, or of a checkout."""
    package = Path(blda_video.__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def names() -> dict[str, Path]:
    """Return the shipped configs and variants by name; a config comes before a variant of the same name."""
    return {path.stem: path for part in (folder() / "variants", folder()) for path in sorted(part.glob("*.yaml"))}


def found(name: str) -> Path:
    """Return the file of a config: `name` itself if it is one, else the shipped config of that name.

    Raises FileNotFoundError that names the nearest shipped one.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = names()
    stem = path.stem if path.suffix in SUFFIXES else name
    # A folder in front, as in configs/demo.yaml typed elsewhere, means the shipped one too.
    if stem.split("/")[-1] in shipped and path.parent.name in ("", "configs", "variants"):
        return shipped[stem.split("/")[-1]]
    raise FileNotFoundError(f"no config at {name}, and none that ships has this name; {nearest(stem, shipped)}")


def found_variants(overrides: Sequence[str]) -> list[str]:
    """Return overrides with names of shipped variants replaced by their files; key=value stays as it is."""
    return [each if "=" in each or Path(each).is_file() else _variant(each) for each in overrides]


def _variant(name: str) -> str:
    try:
        return str(found(name))
    except FileNotFoundError as error:
        raise ValueError(f"'{name}' is neither key=value nor a config: {error}") from None

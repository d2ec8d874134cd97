"""Tiny runs on several sources and targets, one of them without neighbouring frames."""

from __future__ import annotations

from pathlib import Path

import tiny
from blda.config.schema import Config

CITY = "{name: cityscapes_seq, root: WORLDS/city, split: train}"
VIPER = "{name: viper, root: WORLDS/viper, split: train, every: 1}"
VIDEO = "{name: cityscapes_seq, root: WORLDS/city, split: train, key_frames: all}"
GAME = "{name: gta5, root: WORLDS/game}"
SOURCES = f"source: [{{reader: {VIPER}, share: 0.7}}, {{reader: {GAME}, share: 0.3}}]"
TARGETS = f"target: [{{reader: {VIDEO}}}, {{reader: {GAME}}}]"


def load(worlds: Path, folder: Path, mode: str, text: str, *overrides: str) -> Config:
    """The config of a tiny run with the keys of a text on top."""
    file = folder / "several.yaml"
    file.write_text(text.replace("WORLDS", str(worlds)), encoding="utf-8")
    return tiny.load(worlds, folder / "run", mode, str(file), *overrides)

"""Crops that are no whole number of patches: one line that names the nearest ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from blda.build.patch_warnings import patch_warnings
from blda.config import loading
from blda.config.schema import Config

CONFIGS = Path(__file__).parents[3] / "configs"


def _config(*overrides: str) -> Config:
    return loading.load(CONFIGS / "gta2cs.yaml", Config, overrides)


@pytest.mark.parametrize(
    ("overrides", "nearest"),
    [
        ([], r"patches of 14 pixels do not divide source\.crop \[512, 512\], .* to \[504, 504\] or \[518, 518\]"),
        ([str(CONFIGS / "variants/hrda.yaml")], r"multiples of 56, .* to \[1008, 1008\] or \[1064, 1064\]"),
        (["source.crop=[10, 28]", "target.crop=[10, 28]"], r"to \[14, 28\] or \[14, 28\]"),
    ],
)
def test_the_nearest_crops_are_named(overrides, nearest):
    (line,) = patch_warnings(_config(*overrides), 14)
    assert "\n" not in line
    assert re.search(nearest, line)


def test_whole_patches_and_encoders_without_patches_are_silent():
    assert patch_warnings(_config(), 16) == []
    assert patch_warnings(_config(), None) == []
    for name in ("vfm", "vfm_large"):
        assert patch_warnings(_config(str(CONFIGS / f"variants/{name}.yaml")), 14) == []
    hrda = [str(CONFIGS / "variants/hrda.yaml"), "source.crop=[504, 504]", "target.crop=[504, 504]"]
    assert patch_warnings(_config(*hrda), 14) == [], "1008 pixels: context 504, windows 504"

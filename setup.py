"""Packages of the wheel; all other metadata lives in pyproject.toml."""

from setuptools import find_packages, setup

CONFIGS = ["blda_video.configs", "blda_video.configs.base", "blda_video.configs.variants"]
"""The folder `configs`, which an installed package holds inside, so that `blda train demo` works from any folder."""

setup(
    packages=[*find_packages(include=["blda", "blda.*", "blda_video", "blda_video.*"]), *CONFIGS],
    package_dir={"blda_video.configs": "configs"},
    package_data={package: ["*.yaml"] for package in CONFIGS},
)

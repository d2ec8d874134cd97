"""All that the Dockerfile copies and calls exists; building it needs Docker, linting it hadolint (.ci/run)."""

from __future__ import annotations

import json
import re
import shlex
from fnmatch import fnmatch

import pages
from blda_video.commands.main import COMMANDS

ROOT = pages.ROOT
LINES = re.sub(r"^#.*\n|\\\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE).splitlines()


def instructions(name: str) -> list[str]:
    """The arguments of all instructions of one name, in order."""
    return [line.split(maxsplit=1)[1] for line in LINES if line.split(maxsplit=1)[:1] == [name]]


def sent(path: str) -> bool:
    """Tell whether .dockerignore lets a file or folder at the top through; its last matching line decides."""
    result = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#") and fnmatch(path, line.lstrip("!")):
            result = line.startswith("!")
    return result


def test_every_instruction_is_known_and_the_first_builds_on_cuda() -> None:
    known = {"ARG", "FROM", "RUN", "ENV", "COPY", "SHELL", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
    assert {line.split()[0] for line in LINES if line.strip()} == known
    (base,) = instructions("ARG")
    assert re.fullmatch(r"BASE=pytorch/pytorch:[\d.]+-cuda[\d.]+-cudnn\d+-runtime", base)
    needed = re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
    version = re.search(r":([\d.]+)-", base)[1]
    assert tuple(map(int, version.split("."))) >= tuple(map(int, needed.split(".")))


def test_what_is_copied_exists_and_is_sent_and_is_all_that_an_installation_needs() -> None:
    copied = set()
    for arguments in instructions("COPY"):
        *sources, target = shlex.split(arguments)
        assert target.startswith("/opt/blda/")
        assert len(sources) == 1 or target.endswith("/")
        copied |= set(sources)
    assert [name for name in copied if not (ROOT / name).exists() or not sent(name)] == []
    packages = {"blda", "blda_video", "configs"}
    assert copied >= packages | {"pyproject.toml", "setup.py", "README.md", "LICENSE"}
    assert not any(map(sent, ("runs", "data", ".git", "weights", "tests", "shared", ".venv")))


def test_it_runs_as_an_ordinary_user_and_starts_a_command_that_exists() -> None:
    assert instructions("USER")[-1] not in ("root", "0")
    assert LINES.index(next(line for line in LINES if line.startswith("USER"))) > max(
        index for index, line in enumerate(LINES) if line.startswith("RUN")
    )
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["blda"]
    assert '\nblda = "blda_video.commands.main:main"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert any("PIP_NO_CACHE_DIR=1" in each for each in instructions("ENV"))


def test_the_page_runs_the_image_as_it_is_built() -> None:
    text = pages.section((ROOT / "docs" / "scaling.md").read_text(encoding="utf-8"), "## In a container")
    (block,) = pages.blocks(text, "bash")
    build, run = block.replace("\\\n", "").splitlines()
    assert build == "docker build -t blda ."
    words = shlex.split(run.replace('"$(id -u):$(id -g)"', "USER").replace("$PWD", "PWD"))
    after = words[words.index("blda") + 1 :]
    assert after[0] in COMMANDS
    folder = instructions("WORKDIR")[-1]
    mounted = [words[index + 1].split(":")[1] for index, word in enumerate(words) if word == "-v"]
    assert mounted == [f"{folder}/data", f"{folder}/runs"]
    assert any(word.startswith("--shm-size=") for word in words)

"""Folder of a run: claimed by one process at a time, with an identity that its checkpoints carry."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from blda import atomic
from blda.config.schema import Config

_LOG = logging.getLogger(__name__)
CLAIM, IDENTITY = "claim.json", "run.json"
BEAT, GONE = 30, 600
"""Seconds between signs of life in a claim, and after how many without one it is another machine's leftover."""
MAY_CHANGE = ("compare", "data", "data_root", "evaluation", "log", "method", "optimizer", "run", "training")
"""Keys that may differ when a run is continued; all others would make it another experiment."""


def this_process() -> dict[str, Any]:
    """Return keys that identify this process among all processes of all machines, and its SLURM job, if it has one."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    job = {"job": os.environ.get("SLURM_JOB_ID"), "restarts": os.environ.get("SLURM_RESTART_COUNT", "0")}
    process = {"process": os.getpid(), "host": socket.gethostname(), "space": space, "started": _started(os.getpid())}
    return {**process, **(job if job["job"] else {})}


def _started(process: int) -> str | None:
    """Return the start time of a process of this machine, in clock ticks; None if it is gone or unknown."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Claim a run's folder, so that no other process writes there inside the context.

    Deletes drafts of dead processes. A claim whose process is gone is taken over with a warning. Raises ValueError
    naming the process that owns the folder, and for a folder that cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot make the folder {folder} ({error.strerror}); set run=ANOTHER_FOLDER") from error
    path, mine = folder / CLAIM, {**this_process(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    content = json.dumps(mine)
    if not _created(path, content):
        _take_over(path, content)
    atomic.sweep(folder)
    done = threading.Event()
    threading.Thread(target=_beat, args=(path, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()
        if _text(path) == content:
            path.unlink(missing_ok=True)


def _created(path: Path, content: str) -> bool:
    """Write a claim unless there is one; the file system decides between two processes that try."""
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    except OSError as error:
        raise ValueError(f"cannot write {path} ({error.strerror}); set run=ANOTHER_FOLDER") from error
    with os.fdopen(file, "w", encoding="utf-8") as claim:
        claim.write(content)
    return True


def _take_over(path: Path, content: str) -> None:
    found = _text(path)
    if found is None:  # released this moment
        if _created(path, content):
            return
        found = _text(path) or ""
    owner = _owner(found)
    if _lives(owner, path):
        who = f"process {owner.get('process', '?')} on {owner.get('host', '?')} since {owner.get('since', '?')}"
        raise ValueError(
            f"{path.parent} belongs to a run that is alive ({who}); wait for it or stop it, or set run=ANOTHER_FOLDER. "
            f"If it is gone for certain, delete {path}"
        )
    stale = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        os.replace(path, stale)
    except FileNotFoundError:  # another process was faster
        stale = None
    if stale is not None and _text(stale) != found:  # a new claim of a faster one: give it back
        os.replace(stale, path)
    elif stale is not None:
        stale.unlink()
    if not _created(path, content):
        raise ValueError(f"{path.parent} was claimed by another run this moment; set run=ANOTHER_FOLDER")
    _LOG.warning("%s: its last owner, process %s, is gone; taken over", path.parent, owner.get("process", "?"))


def _owner(content: str) -> dict[str, Any]:
    try:
        owner = json.loads(content)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _lives(owner: dict[str, Any], path: Path) -> bool:
    """Return whether the owner of a claim may be alive.

    An owner on another machine is alive while it updates the claim's modification time, unless it is of an earlier
    start of this SLURM job, which has ended.
    """
    here = this_process()
    if "job" in here and owner.get("job") == here["job"] and owner.get("restarts") != here["restarts"]:
        return False
    if owner.get("process") and all(owner.get(key) == here[key] for key in ("host", "space")):
        try:
            os.kill(owner["process"], 0)
        except (ProcessLookupError, OverflowError, TypeError):
            return False
        except OSError:  # it is another user's
            return True
        return _started(owner["process"]) == owner.get("started")
    try:
        beat = path.stat().st_mtime
        probe = path.with_name(f".{path.name}.{os.getpid()}")
        probe.write_text("")  # what the time is on the file system's clock
        now = probe.stat().st_mtime
        probe.unlink()
    except FileNotFoundError:
        return False
    return abs(now - beat) < GONE  # a time in the future is no sign of life: that machine's clock was wrong


def _beat(path: Path, done: threading.Event) -> None:
    while not done.wait(BEAT):
        try:
            os.utime(path)
        except OSError:
            return


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "" if path.exists() else None


def begin(folder: Path, config: Config) -> None:
    """Write a new id for the run that starts in this folder."""
    atomic.write(folder / IDENTITY, json.dumps({"run": uuid.uuid4().hex, "seed": config.seed}))


def identity(folder: Path, config: Config) -> dict[str, Any]:
    """Return the identity that the checkpoints of this folder carry: run id, seed, and digest of the experiment.

    Folders of older versions have no run id.
    """
    found = _owner(_text(folder / IDENTITY) or "")
    known = {"run": str(found["run"])} if "run" in found else {}
    return {**known, "seed": config.seed, "settings": experiment(config)}


def experiment(config: Config) -> str:
    """Compute the digest of the config's keys that must not change when a run is continued.

    Keys at their defaults do not count, so that a later version with a new key continues the runs of this one.
    """
    kept = {key: value for key, value in _beside_defaults(config).items() if key not in MAY_CHANGE}
    return hashlib.sha256(yaml.dump(kept, sort_keys=True, Dumper=yaml.Dumper).encode()).hexdigest()[:16]


def _beside_defaults(value: Any) -> Any:
    """Return a config as plain keys and values, without the keys at their defaults."""
    if isinstance(value, list | tuple):
        return [_beside_defaults(item) for item in value]
    if not is_dataclass(value):
        return value
    items = {field.name: (getattr(value, field.name), _default(field)) for field in fields(value)}
    return {name: _beside_defaults(item) for name, (item, default) in items.items() if item != default}


def _default(field: Field) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()

"""One-line messages, with the fix, for errors of other libraries, the disk and the system."""

from __future__ import annotations

import errno
import pickle
import re
import traceback
import zipfile
import zlib
from collections.abc import Iterator

RESUME = "then continue with --resume"
_LOADER = (
    "a loader process was ended from outside, mostly because memory ran out; "
    f"lower training.workers or training.batch, {RESUME}"
)
_ENDED = re.compile(r"DataLoader worker .*(killed|exited)|Pin memory thread exited")
_RUNTIME = (
    (
        r"Too many open files|received \d+ items of ancdata",
        f"too few open files are allowed; run: ulimit -n 4096, or lower training.workers, {RESUME}",
    ),
    (
        r"(CUDA|HIP|MPS).*out of memory|DefaultCPUAllocator|CUBLAS_STATUS_ALLOC_FAILED",
        "memory is full; lower training.batch and raise training.accumulate, or set training.checkpointing=true",
    ),
    (
        r"(?i)connection (closed|reset|refused|was)|gloo|nccl|broken pipe|socket|store.*(timeout|timed out)|peer",
        f"another process of this run ended or cannot be reached (its own message says why); mend that, {RESUME}",
    ),
    (
        r"PytorchStream|inline_container|unexpected pos",
        f"a file of tensors cannot be read or written; look for room on the disk, {RESUME}",
    ),
)
_DISK = {errno.ENOSPC: "make room on the disk", errno.EDQUOT: "your quota of the disk is used up"}
_FILES = {
    errno.EACCES: "check its permissions",
    errno.EROFS: "choose a folder that can be written",
    errno.EMFILE: "run: ulimit -n 4096, or lower training.workers",
    errno.EIO: "the disk cannot read or write it; check the disk",
    errno.ENAMETOOLONG: "its name is too long; shorten it",
}


def in_one_line(error: BaseException) -> str | None:
    """Describe an error of a file, a decoder, a process or the system in one line, with the fix.

    Returns None for mistakes of this library, whose traceback is wanted.
    """
    if _of_loader(error):
        return _LOADER
    if isinstance(error, ImportError):
        return _missing(error)
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, MemoryError):
        return f"memory is full ({last_line(error)}); lower training.batch or training.workers, {RESUME}"
    if isinstance(error, pickle.UnpicklingError | zipfile.BadZipFile | zlib.error | EOFError):
        return f"a file is damaged or of another kind ({type(error).__name__}: {_without_advice(last_line(error))})"
    if isinstance(error, RuntimeError):
        return _of_runtime(error)
    return last_line(error) if isinstance(error, ValueError) else None


def _of_loader(error: BaseException) -> bool:
    """Tell whether a loader process that ended is the reason of an error, or of one that it was raised after.

    torch reports such an end wherever the main process is at the time, so any other error may stand around its report.
    Without one, a connection is lost: loader processes hand tensors over by a socket. Processes of a run lose each
    other by a RuntimeError.
    """
    if any(isinstance(each, RuntimeError) and _ENDED.search(str(each)) for each in _chain(error)):
        return True
    if isinstance(error, ConnectionError):
        return error.filename is None
    return isinstance(error, EOFError) and _raised_in(error) == "multiprocessing"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """List an error and all that it was raised from or while handling."""
    found, left = set(), [error]
    while left:
        each = left.pop()
        if each is not None and id(each) not in found:
            found.add(id(each))
            yield each
            left += [each.__cause__, each.__context__]


def _raised_in(error: BaseException) -> str | None:
    """Return the package whose code raised an error."""
    place = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        place = frame.f_globals.get("__name__", "").partition(".")[0]
    return place


def _of_runtime(error: RuntimeError) -> str | None:
    said = [*map(str, _chain(error)), type(error).__name__]
    for pattern, text in _RUNTIME:
        if any(re.search(pattern, message) for message in said):
            return text
    return None


def _of_system(error: OSError) -> str:
    """Describe an error of the system, with its file and the fix where they are known."""
    message = last_line(error)
    if error.errno is None:
        return message
    place = next((str(name) for name in (error.filename, error.filename2) if name), "")
    fix = {**_DISK, **_FILES}.get(error.errno)
    return f"{f'{place}: ' if place else ''}{error.strerror}{f'; {fix}' if fix else ''}"


def _missing(error: ImportError) -> str | None:
    """Describe a library that is not installed; None for a module of this library, which is our mistake."""
    name = (error.name or "").split(".")[0]
    if not name or name in ("blda", "blda_video") or not isinstance(error, ModuleNotFoundError):
        return None
    return f"the library {name} is not installed; run: pip install {name}"


def last_line(error: BaseException) -> str:
    """Return the message of an error in one line.

    An error of a loader's worker starts with its traceback; its message is the last line.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^[\w.]+(Error|Exception): ", "", lines[-1]) if "Traceback" in str(error) else lines[0]


def _without_advice(text: str) -> str:
    """Replace a message in which torch advises to unpickle arbitrary content."""
    return text if "weights_only" not in text else "it holds more than tensors, numbers and texts"

"""One-line messages, with the fix, for errors of other libraries, the disk and the system."""

from __future__ import annotations

import errno
import pickle
import re
import zipfile
import zlib

RESUME = "then continue with --resume"
_LOADER = (
    "a loader process was ended from outside, mostly because memory ran out; "
    f"lower training.workers or training.batch, {RESUME}"
)
_RUNTIME = (
    (
        r"DataLoader worker .*(killed|exited)|Pin memory thread exited",
        _LOADER,
    ),
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
    if isinstance(error, ImportError):
        return _missing(error)
    if isinstance(error, ConnectionError) and error.filename is None:
        return _LOADER  # which hands tensors over by a socket; processes of a run lose each other by a RuntimeError
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, MemoryError):
        return f"memory is full ({last_line(error)}); lower training.batch or training.workers, {RESUME}"
    if isinstance(error, pickle.UnpicklingError | zipfile.BadZipFile | zlib.error | EOFError):
        return f"a file is damaged or of another kind ({type(error).__name__}: {_without_advice(last_line(error))})"
    if isinstance(error, RuntimeError):
        return _of_runtime(error)
    return last_line(error) if isinstance(error, ValueError) else None


def _of_runtime(error: RuntimeError) -> str | None:
    chain = [str(error), str(error.__cause__ or ""), str(error.__context__ or ""), type(error).__name__]
    for pattern, text in _RUNTIME:
        if any(re.search(pattern, message) for message in chain):
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

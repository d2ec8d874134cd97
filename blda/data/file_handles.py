"""Limit of open files, raised before loader processes start."""

from __future__ import annotations

_BASE, _EACH = 64, 24
"""Handles of a process, and of it for each loader process: 15 + 16 a process were counted in training on images (CPU,
torch 2.14), a third more with the tensors of clips; the rest is for a GPU."""


def require_handles(workers: int) -> None:
    """Raise this process's limit of open files as far as `workers` loader processes need it.

    Raises ValueError with the fix when the system does not allow so many; torch would hang in its queues later.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    needed = _BASE + _EACH * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not workers or soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ValueError(
            f"{workers} loader processes need about {needed} open files, but only {hard} are allowed; "
            f"run: ulimit -n {max(1024, needed)}, or lower training.workers (--workers)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))

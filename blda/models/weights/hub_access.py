"""Access to the Hugging Face hub, whose every refusal is one line with the fix."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
HUB = "hub:"
PUBLISHED = ("model.safetensors", "pytorch_model.bin")
"""Names that transformers gives the weights in a repository."""
_LOGIN = "log in by: hf auth login"


def downloaded_weights(name: str, files: Sequence[str] = PUBLISHED) -> Path:
    """Download the weights of a repository of the hub, or find them in its cache, and return their path.

    name: "user/name", or "user/name/FILE". files: names of weight files, of which the first that is there is taken.
    Raises FileNotFoundError that says why there are none, and the fix.
    """
    user, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    failure = f"weights '{HUB}{name}':"
    if not user or not repository:
        raise FileNotFoundError(f"{failure} no name of a repository; give hub:user/name, such as hub:nvidia/mit-b5")

    def download(hub: Any) -> str:
        for each in [file] if file else files:
            try:
                return hub.hf_hub_download(f"{user}/{repository}", each)
            except Exception as error:
                # Only what the hub itself says is missing lets the next name have its turn.
                if "RemoteEntryNotFoundError" not in _kinds(error) and not _is_entry(error):
                    raise
        raise FileNotFoundError(file or " or ".join(files))

    return Path(asked(download, failure, f"{user}/{repository}"))


def asked(ask: Callable[[Any], T], failure: str, repository: str) -> T:
    """Ask the hub through `huggingface_hub`, which `ask` is given.

    Raises FileNotFoundError that begins with `failure`, and ends with the reason and the fix, when it does not answer.
    """
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            f"{failure} huggingface_hub is not installed; run: pip install huggingface_hub"
        ) from error
    try:
        return ask(huggingface_hub)
    except Exception as error:  # of the hub, its cache and the network, of many libraries
        raise FileNotFoundError(f"{failure} {_reason(error, repository)}") from error


def _reason(error: Exception, repository: str) -> str:
    """Say why the hub gave no answer, and the fix, by the name of its error, which its versions share."""
    kinds, status = _kinds(error), getattr(getattr(error, "response", None), "status_code", None)
    if type(error) is FileNotFoundError:
        return f"{repository} of the hub holds no {error}; give another repository, or hub:{repository}/FILE"
    if "GatedRepoError" in kinds:
        return f"{repository} is open to those only who accept its terms on the hub; do that, and {_LOGIN}"
    if "RevisionNotFoundError" in kinds:
        return f"{repository} of the hub has no such revision; leave it out for the newest"
    if "RepositoryNotFoundError" in kinds:
        return f"the hub has no {repository}, or it is private; check the name, or {_LOGIN}"
    if "LocalTokenNotFoundError" in kinds or status in (401, 403):
        return f"the hub refuses this access to {repository}; {_LOGIN}"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return f"HF_HUB_OFFLINE forbids downloads and the cache holds no {repository}; unset it, or give a local path"
    return (
        f"the hub cannot be reached ({_root(error)}) and the cache holds no {repository}; check the connection, or "
        "download it elsewhere and give its path"
    )


def _kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _is_entry(error: BaseException) -> bool:
    """Tell whether the hub says that a file is missing: versions before 1.0 have one error for it and for no answer."""
    return "EntryNotFoundError" in _kinds(error) and "LocalEntryNotFoundError" not in _kinds(error)


def _root(error: BaseException) -> str:
    """Describe the first of a chain of errors in a few words."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:100] or type(error).__name__

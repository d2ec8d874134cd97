"""A Hugging Face hub on the disk, in place of the real one."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import pytest


class FakeHub:
    """Repositories below a folder; remembers what it was asked."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.asked = root, []
        patch.setattr(huggingface_hub, "HfApi", lambda: self)
        patch.setattr(huggingface_hub, "snapshot_download", self.download)

    def create_repo(self, name: str, *, private: bool | None, exist_ok: bool) -> str:
        """Create a repository; returns its address."""
        assert exist_ok
        self.asked.append(("create", name, private))
        return f"https://hub/{name}"

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        """Copy a folder into a repository."""
        assert commit_message
        self.asked.append(("upload", repo_id))
        shutil.copytree(folder_path, self.root / repo_id)

    def download(self, name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        """Return the folder of a repository, all of whose files are asked for."""
        assert {path.name for path in (self.root / name).iterdir()} <= set(allow_patterns)
        self.asked.append(("download", name, revision))
        return str(self.root / name)

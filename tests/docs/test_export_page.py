"""The snippet of the page on export runs on a file that `blda export` wrote."""

from __future__ import annotations

import onnx_export
from cli import tool
from pages import ROOT, blocks, section
from trained import CLASSES, checkpoint_in


def test_the_snippet_reads_an_exported_network(tmp_path, monkeypatch, capsys):
    onnx_export.skip_without()
    path = checkpoint_in(tmp_path, "image")
    tool("export", path, "--size", 32, 64, "--output", tmp_path / "step_000700.onnx")
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    (snippet,) = blocks(section((ROOT / "docs" / "inference.md").read_text(encoding="utf-8"), "## Export"), "python")
    exec(compile(snippet, "inference.md", "exec"), {})
    counts = eval(capsys.readouterr().out)
    assert counts.keys() <= set(CLASSES)
    assert sum(counts.values()) == 32 * 64

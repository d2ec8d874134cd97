"""The Python on the pages runs as it stands there."""

from __future__ import annotations

from pages import ROOT, blocks


def test_the_readmes_snippet_runs(capsys) -> None:
    (snippet,) = blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python")
    namespace: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), namespace)
    assert namespace["logits"].grad.abs().sum() > 0
    assert namespace["statistics"].estimated.all()
    assert capsys.readouterr().out.startswith("tensor(")

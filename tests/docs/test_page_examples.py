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


def test_the_readmes_two_commands_are_whole() -> None:
    commands = [
        line
        for block in blocks((ROOT / "README.md").read_text(encoding="utf-8"), "bash")
        for line in block.splitlines()
    ]
    installs = [
        command for command in commands if command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    ]
    assert len(installs) == 2
    assert [command for command in commands if command.endswith("-m pytest")] == installs[1:]  # .ci/run takes this one
    assert installs[0].endswith(" && .venv/bin/accelerate launch tools/train_video.py configs/demo.yaml")

"""The command `blda`: quick help, names of configs from any folder, run folders, dry run, an installed package."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from blda.engine import checkpoint
from blda_video.commands.main import COMMANDS, main
from blda_video.jobs import kinds, shipped_configs
from blda_video.jobs.restored_run import checkpoint_of
from cli import error_of, tool

ROOT = Path(__file__).parents[3]
FEW = ["log.bar=false", "training.workers=0"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_begins_with_an_example_and_imports_no_torch(name):
    code = f"""
import sys
from blda_video.commands.main import main
try:
    main(["{name}", "--help"])
except SystemExit as stopped:
    heavy = {{"torch", "numpy", "cv2", "numba", "accelerate"}} & sys.modules.keys()
    sys.exit(f"imports {{heavy}}" if heavy or stopped.code else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    example = next(line for line in done.stdout.splitlines()[1:] if line.strip())
    assert example.startswith(f"    blda {name} "), example
    assert done.stdout.index(example) < done.stdout.index("usage:")


def test_every_command_has_a_module_and_the_other_way_round():
    modules = {path.stem for path in (ROOT / "blda_video" / "commands").glob("*.py")}
    assert modules - {"__init__", "main", "command_line"} == {name.replace("-", "_") for name in COMMANDS}


def test_unknown_commands_and_versions(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["trian"])
    assert stopped.value.code == 2
    assert "unknown command 'trian'; did you mean 'train'?" in capsys.readouterr().err
    main(["--version"])
    assert capsys.readouterr().out.startswith("blda 0.")
    main([])
    assert "blda train demo" in capsys.readouterr().out


def test_shipped_configs_are_found_by_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped_configs.found("demo") == ROOT / "configs" / "demo.yaml"
    assert shipped_configs.found("configs/variants/mic.yaml") == ROOT / "configs" / "variants" / "mic.yaml"
    assert shipped_configs.found_variants(["mic", "seed=3"]) == [str(ROOT / "configs/variants/mic.yaml"), "seed=3"]
    (tmp_path / "demo").mkdir()
    assert shipped_configs.found("demo").name == "demo.yaml", "a folder of that name is no config"
    (tmp_path / "own.yaml").write_text("run: x")
    assert shipped_configs.found("own.yaml") == Path("own.yaml")
    assert "did you mean 'demo'?" in error_of("train", "dmo")
    assert "'mik' is neither key=value nor a config" in error_of("train", "demo", "mik")


def test_one_function_finds_the_kind_of_a_config(tmp_path):
    names = {"demo": "VideoConfig", "gta2cs": "Config", "visda17": "ClassifyConfig", "viper2csseq": "VideoConfig"}
    assert {name: kinds.of_run(shipped_configs.found(name))[0].__name__ for name in names} == names
    plain = tmp_path / "plain.yaml"
    plain.write_text("run: x\ntarget: {reader: {name: folder, images: a}}\n")
    assert kinds.of_run(plain)[0].__name__ == "Config"
    for override in ("target.reader={name: videos, root: a}", "offsets=[-1]", "evaluation.reader.name=cityscapes_seq"):
        assert kinds.of_run(plain, [override])[0].__name__ == "VideoConfig", override


@pytest.fixture(scope="module")
def trained(worlds, tmp_path_factory) -> Path:
    """The folder of a run of two methods on tiny worlds."""
    run = tmp_path_factory.mktemp("command") / "run"
    tool("train", ROOT / "tests/support/tiny_video.yaml", *_small(worlds, run), "compare=[source_only]", "method=blda")
    return run


def _small(worlds: Path, run: Path) -> list[str]:
    return [*tiny.roots(worlds), f"run={run}", *FEW, "training.steps=2", "training.checkpoint_every=1"]


def test_a_run_folder_stands_for_its_newest_checkpoint(trained, tmp_path, capsys):
    newest = checkpoint.latest(trained / "blda")
    assert checkpoint_of(trained / "blda") == newest == checkpoint_of(newest)
    with pytest.raises(ValueError, match="holds the runs blda, source_only; give one of them"):
        checkpoint_of(trained)
    with pytest.raises(ValueError, match="holds no step_"):
        checkpoint_of(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        checkpoint_of(tmp_path / "nowhere")
    capsys.readouterr()
    tool("evaluate", trained / "blda")
    by_folder = capsys.readouterr().out
    tool("evaluate", newest)
    assert capsys.readouterr().out == by_folder


def test_a_dry_run_tells_the_cost_and_keeps_nothing(worlds, tmp_path, capsys):
    config, run = ROOT / "tests/support/tiny_video.yaml", tmp_path / "run"
    tool("train", config, *_small(worlds, run), "compare=[source_only]", "method=blda", "--dry-run")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["source_only", "blda"]
    assert all("GiB" in line and "s a step" in line and "in all" in line for line in lines)
    assert not list(tmp_path.rglob("step_*.pt")) and not list(tmp_path.rglob("metrics.jsonl"))
    assert "give one of them" in error_of("train", config, *_small(worlds, run), "--dry-run", "--resume")
    assert "numbers of --dry-run" in error_of("train", config, *_small(worlds, run), "--json")


def test_a_dry_run_without_pretrained_weights_measures_random_ones(worlds, tmp_path, capsys, caplog):
    missing = tmp_path / "absent.pth"
    frozen = f"{{name: vit_pyramid, model: test_vit, weights: {missing}}}"
    distance = f"foundation_distance={{size: [32, 32], encoder: {frozen}}}"
    config, options = ROOT / "tests/support/tiny_video.yaml", _small(worlds, tmp_path / "run")
    tool("train", config, *options, distance, "--dry-run", "--json")
    costs = json.loads(capsys.readouterr().out)
    assert list(costs) == ["blda"]
    assert all(number > 0 for number in costs["blda"].values())
    assert costs["blda"]["seconds_in_all"] > costs["blda"]["seconds_per_step"]
    assert costs["blda"]["parameters"] * 4 < costs["blda"]["checkpoint_bytes"] < costs["blda"]["memory_bytes"]
    assert f"measured with random weights, because training would stop: weights '{missing}' do not exist" in caplog.text


def test_a_rehearsal_runs_at_once(tmp_path, capsys):
    tool("make_world", "--like", "visda17", "--root", tmp_path, "--run")
    assert capsys.readouterr().out.startswith("protocol visda12")


def test_an_installed_package_works_from_another_folder(tmp_path):
    """`pip install .` of the tracked files alone; its dependencies are this environment's."""
    clone, site, elsewhere = (tmp_path / name for name in ("clone", "site", "elsewhere"))
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.splitlines()):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    isolated = [] if importlib.util.find_spec("setuptools") is None else ["--no-build-isolation"]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", *isolated, "--target", str(site), str(clone)]
    subprocess.run(pip, check=True)
    elsewhere.mkdir()

    def said(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(site)}
        code = "from blda_video.commands.main import main; main()"
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(
            command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
        ).stdout

    where = "import blda, blda_video; print(blda.__file__, blda_video.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=elsewhere, env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert found.split() == [str(site / package / "__init__.py") for package in ("blda", "blda_video")]
    assert said("--version").startswith("blda 0.")
    shipped = sorted(path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml"))
    assert (
        sorted(p.relative_to(site / "blda_video/configs") for p in site.glob("blda_video/configs/**/*.yaml")) == shipped
    )
    assert (site / "bin" / "blda").exists()
    said("make-world", "--preview", "sheet.png", "--size", "32", "64")
    assert (elsewhere / "sheet.png").exists()

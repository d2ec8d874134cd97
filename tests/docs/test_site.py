"""The site: its menu has every page, and the hook turns links between files into links between pages.

`mkdocs build --strict` (.ci/run) checks every link and anchor; this needs no mkdocs.
"""

from __future__ import annotations

import runpy

import pytest
import yaml

import pages

ROOT = pages.ROOT
HOOK = runpy.run_path(str(ROOT / "docs" / "hooks" / "root_pages.py"))
links = HOOK["site_links"]


class Loader(yaml.SafeLoader):
    """YAML loader that reads mkdocs' tags as text."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
SETTINGS = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)


def menu(part: object = SETTINGS["nav"]) -> list[str]:
    """All pages of the menu."""
    if isinstance(part, str):
        return [part]
    parts = part.values() if isinstance(part, dict) else part
    return [page for each in parts for page in menu(each)]


def test_the_menu_has_every_page_once() -> None:
    own = {path.name for path in (ROOT / "docs").glob("*.md")}
    listed = menu()
    outer = {"CHANGELOG.md", "CONTRIBUTING.md", HOOK["RESULTS_PAGE"], *HOOK["readme_pages"]()}
    assert sorted(listed) == sorted({*own, *outer})
    assert SETTINGS["validation"]["links"]["anchors"] == SETTINGS["validation"]["nav"]["not_found"] == "warn"


def test_the_readme_is_cut_into_pages_without_a_loss() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    parts = HOOK["readme_pages"]()
    lines = [line.lstrip("#") for text in parts.values() for line in text.splitlines()]
    assert sorted(lines) == sorted(line.lstrip("#") for line in readme.splitlines())
    for title, uri in HOOK["SECTIONS"].items():
        assert parts[uri].startswith(f"# {title}\n")


@pytest.mark.parametrize(
    ("uri", "link", "wanted"),
    [
        ("index.md", "docs/method.md#1-bias", "method.md#1-bias"),
        ("index.md", "#your-data", "your_data.md"),
        ("index.md", "#how-it-works", "#how-it-works"),
        ("your_data.md", "docs/demo.png", "demo.png"),
        ("your_data.md", "#benchmarks", "benchmarks.md"),
        ("faq.md", "../README.md#citation", "index.md#citation"),
        ("faq.md", "../benchmarks/results/x.md", "benchmarks/results/x.md"),
        ("parity.md", "../benchmarks/results", "benchmarks/results/index.md"),
        ("benchmarks/results/ablation_cpu_2026-11-23.md", "../../docs/log.md", "../../log.md"),
        ("CHANGELOG.md", "docs/gpu.md", "gpu.md"),
        ("scaling.md", "reliability.md#limits", "reliability.md#limits"),
        ("scaling.md", "../examples/slurm_train.sh", "examples/slurm_train.sh"),
        ("faq.md", "https://example.org/a.md", "https://example.org/a.md"),
    ],
)
def test_links_between_files_become_links_between_pages(uri: str, link: str, wanted: str) -> None:
    assert links(f"see [x]({link}) and", uri) == f"see [x]({wanted}) and"


def test_code_keeps_its_text_and_linked_files_come_with_the_site() -> None:
    code = "```python\nx = a[0](docs/y.md)\n```\n"
    assert links(code, "index.md") == code
    assert {"LICENSE", "CITATION.cff"} <= set(HOOK["linked_files"]())

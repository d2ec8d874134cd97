"""Hook of mkdocs: brings pages from outside docs/ into the site, and turns links to files into links to pages."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
README = "README.md"
SECTIONS = {"Try it": "try_it.md", "Your data": "your_data.md", "Benchmarks": "benchmarks.md"}
"""Sections of the README that are pages of their own in the site; all others stay on the first page."""
RESULTS = "benchmarks/results"
RESULTS_PAGE = f"{RESULTS}/index.md"

_LINK = re.compile(r"\]\((?![a-z]+:)([^)\s#]*)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^(```.*?^```)", re.DOTALL | re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    """Add pages and linked files from outside docs/ to the files of the site."""
    from mkdocs.structure.files import File

    for uri, text in {**readme_pages(), RESULTS_PAGE: results_page()}.items():
        files.append(File.generated(config, uri, content=text))
    known = {file.src_uri for file in files}
    for path in dict.fromkeys((*outer_pages(), *linked_files())):
        if path not in known:
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the text of a page with links of the site."""
    return site_links(markdown, page.file.src_uri)


@cache
def readme_pages() -> dict[str, str]:
    """Split the README into pages of the site; KeyError for a missing section of SECTIONS."""
    first, *sections = _sections((ROOT / README).read_text(encoding="utf-8"))
    texts = {text.partition("\n")[0].removeprefix("## ").strip(): text for text in sections}
    own = {uri: texts[title].removeprefix("#") for title, uri in SECTIONS.items()}
    return {"index.md": first + "".join(text for title, text in texts.items() if title not in SECTIONS), **own}


def results_page() -> str:
    """List all files of results, newest first, by their titles."""
    titles = {path.name: path.read_text(encoding="utf-8").partition("\n")[0] for path in (ROOT / RESULTS).glob("*.md")}
    newest = sorted(titles, key=lambda name: (name[-13:], name), reverse=True)
    lines = [f"* [{titles[name].removeprefix('# ')}]({name})" for name in newest]
    return "\n".join(["# Results", "", "Every result with its command, hardware and commit.", "", *lines, ""])


def outer_pages() -> list[str]:
    """Return the pages of the site that lie outside docs/ as they are."""
    return ["CHANGELOG.md", "CONTRIBUTING.md", *(f"{RESULTS}/{path.name}" for path in (ROOT / RESULTS).glob("*.md"))]


def linked_files() -> Iterator[str]:
    """Yield the files outside docs/ that pages link to, such as examples."""
    for origin in (README, *outer_pages(), *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))):
        for link, _ in _LINK.findall(_FENCE.sub("", (ROOT / origin).read_text(encoding="utf-8"))):
            path = _resolved(link, origin)
            if link and path != README and not path.startswith("docs/") and (ROOT / path).is_file():
                yield path


def site_links(text: str, uri: str) -> str:
    """Return the text of the page `uri` with links between files of the repository turned to links of the site."""
    origin = origin_of(uri)

    def changed(match: re.Match[str]) -> str:
        link, anchor = match[1], match[2] or ""
        target = uri_of(_resolved(link, origin) if link else origin, anchor, uri)
        if target == uri and anchor:
            return f"]({anchor})"
        return f"]({posixpath.relpath(target, posixpath.dirname(uri) or '.')}{_within(target, anchor)})"

    return "".join(part if part.startswith("```") else _LINK.sub(changed, part) for part in _FENCE.split(text))


def origin_of(uri: str) -> str:
    """Return the file of the repository that a page of the site comes from."""
    if uri in readme_pages():
        return README
    return uri if uri == RESULTS_PAGE or uri in outer_pages() else f"docs/{uri}"


def uri_of(path: str, anchor: str, uri: str) -> str:
    """Return the page or file of the site for a file of the repository; `uri` is the page that links to it."""
    if path == README:
        return _page_of_anchor(anchor) if anchor else "index.md"
    if path == RESULTS:
        return RESULTS_PAGE
    return path.removeprefix("docs/")


def _page_of_anchor(anchor: str) -> str:
    """Return the page of the site that has a heading of the README; the first page if none has, which mkdocs tells."""
    for uri, text in readme_pages().items():
        if anchor.removeprefix("#") in {_slug(title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}:
            return uri
    return "index.md"


def _within(target: str, anchor: str) -> str:
    """Return the anchor; none for the heading that is now the title of a page."""
    return "" if anchor and anchor == f"#{_slug(_title_of(target))}" else anchor


def _title_of(uri: str) -> str:
    return next((title for title, page in SECTIONS.items() if page == uri), "")


def _slug(title: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def _resolved(link: str, origin: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))


def _sections(text: str) -> Sequence[str]:
    """Split a page before its headings of the second level; lines of code are none."""
    parts, in_code = [""], False
    for line in text.splitlines(keepends=True):
        in_code ^= line.startswith("```")
        if line.startswith("## ") and not in_code:
            parts.append("")
        parts[-1] += line
    return parts

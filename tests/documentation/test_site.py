"""The pages build without a warning, and every link of README and docs/ leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.documentation.blocks import PAGES, without_code

LINK = re.compile(r"\]\(\s*([^)\s]+)\s*\)")
OUTSIDE = re.compile(r"[a-z]+:")
MOST_LINES = 180


def anchors(path: Path) -> set[str]:
    """Return the names by which a page's headings are reached."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S), flags=re.M)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links(page: str) -> None:
    for link in LINK.findall(without_code(page)):
        if OUTSIDE.match(link):
            continue
        name, _, anchor = link.partition("#")
        target = (PROJECT / page).parent / name if name else PROJECT / page
        assert target.exists(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target), f"{page}: {link}"


def test_the_front_page_is_short() -> None:
    assert len((PROJECT / "README.md").read_text().splitlines()) <= MOST_LINES


def test_the_front_page_leads_to_every_page() -> None:
    links = set(LINK.findall((PROJECT / "README.md").read_text()))
    assert {page for page in PAGES if page.startswith("docs/")} - {"docs/index.md"} <= links


def test_the_site_builds(tmp_path: Path) -> None:
    """As `mkdocs build --strict` does: any warning, a missing page or anchor among them, is an error."""
    pytest.importorskip("mkdocs")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(PROJECT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True))
    built = {path.stem for path in (tmp_path / "site").glob("*.html")}
    assert {Path(page).stem for page in PAGES if page.startswith("docs/")} <= built

"""The site builds without a warning, its links lead somewhere, and it loads nothing from elsewhere."""

import json
import re
from pathlib import Path

import pytest
from docs.site import build, checks, nav, staging
from docs.site.__main__ import make

import shopfit


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("build"))


def test_every_page_is_there_as_html_and_as_markdown(site: Path) -> None:
    for place in staging.pages().values():
        assert (site / place).is_file()
        html = (site / place).with_suffix(".html").read_text(encoding="utf-8")
        assert f'<link rel="alternate" type="text/markdown" href="{Path(place).name}">' in html


def test_the_version_is_that_of_the_release(site: Path) -> None:
    assert site.name == shopfit.__version__
    listed = json.loads((site.parent / "versions.json").read_text())
    assert [entry["version"] for entry in listed] == [shopfit.__version__]
    assert f"url={shopfit.__version__}/index.html" in (site.parent / "index.html").read_text()
    assert f"shopfit {shopfit.__version__}" in (site / "index.html").read_text(encoding="utf-8")


def test_links_in_markdown_lead_to_markdown(site: Path) -> None:
    for page in site.rglob("*.md"):
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", text):
            assert (page.parent / target).exists(), f"{page.relative_to(site)}: {target}"


def test_llms_txt_lists_every_page(site: Path) -> None:
    text = (site / "llms.txt").read_text(encoding="utf-8")
    assert text.startswith("# shopfit\n\n> ")
    listed = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): .+$", text, re.MULTILINE)
    chinese_start = "zh/index.md"
    assert sorted(listed) == sorted({*staging.pages().values()} - {chinese_start} | ({chinese_start} & set(listed)))
    assert len(listed) == len(set(listed))


def test_pages_in_chinese_say_so(site: Path) -> None:
    assert '<html lang="zh"' in (site / "zh" / "index.html").read_text(encoding="utf-8")
    assert 'hreflang="zh"' in (site / "index.html").read_text(encoding="utf-8")


def page(folder: Path, body: str, name: str = "index.html") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"<html><head></head><body>{body}</body></html>", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('<a href="nowhere.html">x</a>', "nowhere.html leads nowhere"),
        ('<a href="index.html#nothing">x</a>', "no such anchor"),
        ('<script src="https://cdn.example.com/x.js"></script>', "loaded from another host"),
        ('<link rel="stylesheet" href="//fonts.example.com/css">', "loaded from another host"),
        ('<link rel="preconnect" href="https://fonts.example.com">', "loaded from another host"),
        ('<img src="https://example.com/x.png" alt="x">', "loaded from another host"),
        ('<img src="gone.png" alt="x">', "gone.png is not there"),
        ('<img src="data:image/png;base64,AA==">', "no text for those who do not see it"),
        ('<p style="background: url(https://example.com/x.png)">x</p>', "loaded from another host"),
        ("<style>@import 'https://example.com/x.css';</style>", "loaded from another host"),
        ('<div class="mermaid">x</div>', "loads a program from another host"),
        ("<p>Two things:\n- one\n- two</p>", "empty line before it"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, body: str, said: str) -> None:
    found = checks.problems(page(tmp_path, body))
    assert len(found) == 1
    assert said in found[0]


def test_what_is_right_is_not_found(tmp_path: Path) -> None:
    body = '<h1 id="x">x</h1><a href="#x">x</a><a href="b.html#y">y</a><a href="https://example.com">z</a>'
    page(tmp_path, '<p id="y">y</p><a name="z"></a><a href="index.html">x</a>', "b.html")
    assert checks.problems(page(tmp_path, body)) == []


def test_styles_are_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text("@font-face { src: url('https://fonts.example.com/x.woff2') }")
    assert "loaded from another host" in checks.problems(page(tmp_path, "x"))[0]


def test_blocks_of_code_keep_their_links() -> None:
    text = "[a](b.md)\n```text\n[a](b.md)\n```\n    [a](b.md)\n"
    assert staging.relinked(text, lambda link: f"x/{link}").count("x/b.md") == 1


def test_pages_come_as_the_start_page_names_them(tmp_path: Path) -> None:
    (tmp_path / "how-to").mkdir()
    for name in ("a", "b", "c", "d"):
        (tmp_path / "how-to" / f"{name}.md").write_text(f"# Page {name}\n")
    start = "# Start\n\n**Do.** [c](how-to/c.md) ·\n[a](how-to/a.md)\n\n**Bold** words, and [d](how-to/d.md).\n"
    (tmp_path / "index.md").write_text(start)
    pages = nav.sections(tmp_path, nav.ENGLISH)["How-to"]
    assert [(page.title, page.group) for page in pages] == [
        ("Page c", "Do"),
        ("Page a", "Do"),
        ("Page d", ""),
        ("Page b", ""),
    ]


def test_pages_without_a_section_or_a_title_are_refused(tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "index.md").write_text("# Start\n")
    (tmp_path / "odd" / "page.md").write_text("# A page\n")
    with pytest.raises(ValueError, match="in no section"):
        nav.sections(tmp_path, nav.ENGLISH)
    (tmp_path / "odd" / "page.md").rename(tmp_path / "page.md")
    (tmp_path / "page.md").write_text("A page\n")
    with pytest.raises(ValueError, match="no heading"):
        nav.sections(tmp_path, nav.ENGLISH)


def test_a_warning_fails_the_build(tmp_path: Path) -> None:
    staged = tmp_path / "docs"
    (staged / "stylesheets").mkdir(parents=True)
    (staged / "index.md").write_text("# Start\n\n[nowhere](gone.md)\n")
    with pytest.raises(build.BuildError, match="page does not exist"):
        build.build(staged, tmp_path / "site")

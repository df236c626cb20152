import pytest

from shopfit.merchant.markup import text_of


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>Soft &amp; warm.</p><p>Washable</p>", "Soft & warm. Washable"),
        ("<ul><li>one<li>two</ul>", "one two"),
        ("a<br>b<br/>c", "a b c"),
        ("<b>bo</b>ld &#8364;5&nbsp;only", "bold €5 only"),
        ("x<script>var a = '<p>no</p>'</script><style>p {}</style>y", "x y"),
        ("x<!-- <p>no</p> -->y", "x y"),
        ("<table><tr><td>1</td><td>2</td></tr></table>", "1 2"),
        ("<p>unclosed <b", "unclosed <b"),
        ("<head><title>no</title><style>p {}</style><p>shown", "shown"),
        ("a<object data='x'>no<b>no</b></object>b", "a b"),
        ("a<object data='x'>b<style>p {}</style><p>c", "a b c"),
        ("a<svg><title>no</title><object>no</object>no<svg>no</svg>no</svg>b", "a b"),
        ("a<object><svg>no</object>b</svg>c", "a b c"),
        ("a<template><template>no</template></p>no</template>b", "a b"),
        ("&amp;", "&"),
        ("<p> </p>", ""),
        ("size < 5 & > 3, R&D\nnext", "size < 5 & > 3, R&D\nnext"),
        ("plain", "plain"),
    ],
)
def test_what_a_browser_would_show(markup: str, text: str) -> None:
    assert text_of(markup) == text


@pytest.mark.parametrize(
    "part", ["<", "<a", "<!--", "<a b='", "<script>", "</", "&#", "<![CDATA[", "<svg>", "<p x=", "<?", "<title>", "<p>"]
)
def test_broken_markup_of_any_length_is_read(part: str) -> None:
    assert isinstance(text_of("<p>" + part * 40_000 + "</p>"), str)  # quadratic, this would take minutes


@pytest.mark.parametrize("hidden", ["svg", "object", "noscript", "template"])
def test_what_is_open_thousands_of_times_ends(hidden: str) -> None:
    opened, others = f"<{hidden}>" * 5000, "</iframe></b>" * 5000
    assert text_of(f"<p>a{opened}no{others}{f'</{hidden}>' * 4999}no</{hidden}>b") == "a b"

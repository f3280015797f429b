"""Text in Markdown: what begins a list there is escaped where Markdown takes the escape."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from remedies.report.markdown_escape import prose


@pytest.mark.parametrize(
    "text", ["0.1.0", "1. one", "1.", "12. x", "1) one", "- x", "+ x", "= x", "..."]
)
def test_the_beginning_of_a_line_says_what_it_says(text: str) -> None:
    paragraph, inline, _ = MarkdownIt("commonmark").parse(prose(text))
    assert paragraph.type == "paragraph_open"
    assert "".join(each.content for each in inline.children or ()) == text

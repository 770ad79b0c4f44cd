"""Texts in viser's Markdown."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gseg_ns.viewer.markdown import LONGEST, plain

NASTY = st.text(st.sampled_from("{}<>[]()`*_~#+-=|\\&!:;@/.1\n\r\t\u2028\u0085\u202e\ud800 eximport'\"$"), max_size=40)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=60), NASTY))
@example("export const x = 1")
@example("import x from 'y'")
@example("a\n\nexport const x = 1")
@example("1. a")
@example("1) a")
@example("# a")
@example("- a")
@example("+ a")
@example("--- a")
@example("=== a")
@example("\\{a}")
@example("&#123;")
def test_nothing_is_markup(text: str) -> None:
    shown = plain(text)
    assert "\n" not in shown
    shown.encode()  # no half of a pair
    bare = re.sub(r"^&#\d+;", "", shown)  # the one reference that is ours
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_{}\[\]<>&~|]", bare.replace("\\\\", ""))
    assert not re.match(r"import|export|[#+\-=]|\d+[.)]|[ \t]", shown)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Zs")), max_size=60))
def test_the_text_stands_there(text: str) -> None:
    shown = re.sub(r"^&#(\d+);", lambda found: chr(int(found[1])), plain(text)).replace("\u200b", "")
    assert re.sub(r"\\([\\`*_{}\[\]<>&~|])", r"\1", shown) == text


@pytest.mark.parametrize("text", ["http://a.example", "see https://a.example/b", "www.a.example", "a@b.example"])
def test_addresses_are_no_links(text: str) -> None:
    shown = plain(text)
    assert not re.search(r"https?://|www\.|\w@\w", shown)
    assert shown.replace("\u200b", "") == text


def test_long_texts_are_cut() -> None:
    assert len(plain("a" * 10**6)) == LONGEST + 1

from __future__ import annotations

from gseg_ns.files import is_below, slug, unique_slugs


def test_a_name_becomes_part_of_a_file_name() -> None:
    assert slug("red mug: the 2nd") == "red-mug-the-2nd"
    assert slug("!!") == ""
    assert slug("椅子" * 30) == "椅子" * 13
    assert len(slug("ab " * 40).encode()) <= 80


def test_no_two_names_become_the_same() -> None:
    names = ["a b", "a-b", "!!", "??", "A b", "object"]
    slugs = unique_slugs(names, "object")
    assert slugs == {
        "a b": "a-b",
        "a-b": "a-b-2",
        "!!": "object",
        "??": "object-2",
        "A b": "A-b-3",
        "object": "object-3",
    }


def test_what_stays_below_a_folder() -> None:
    for name in ("a", "a/b", "./a", "", "..a", "a..b", "nerfstudio_models/", "2024-01-01_120000"):
        assert is_below(name), name
    for name in ("..", "a/../b", "/a", "//a", "a\\..\\b", "C:\\a", "C:a", "\\a", "\\\\host\\share\\a"):
        assert not is_below(name), name

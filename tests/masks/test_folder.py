from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskFolder


def make(folder: Path, *names: str) -> MaskFolder:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[]")
    return MaskFolder(folder)


def names(folder: MaskFolder, *images: str) -> list[str | None]:
    found = folder.match([PurePosixPath(image) for image in images])
    return [None if file is None else file.path.relative_to(folder.folder).as_posix() for file in found]


def test_dots_spaces_and_letters(tmp_path: Path) -> None:
    folder = make(tmp_path, "img.0001.json", "img.0002.png", "mein Bild.png", "Fußgänger.json")
    images = ("images/img.0001.jpg", "images/img.0002.jpg", "mein Bild.JPG", "Fu\u00dfga\u0308nger.png", "img.jpg")
    assert names(folder, *images) == ["img.0001.json", "img.0002.png", "mein Bild.png", "Fußgänger.json", None]


def test_subfolders_are_mirrored(tmp_path: Path) -> None:
    folder = make(tmp_path, "left/1.json", "right/1.json", "2.json")
    assert names(folder, "images/left/1.jpg", "images/right/1.jpg", "images/2.jpg") == [
        "left/1.json",
        "right/1.json",
        "2.json",
    ]
    assert names(folder, "/somewhere/scene/images_2/left/1.png") == ["left/1.json"]


def test_equal_stems(tmp_path: Path) -> None:
    folder = make(tmp_path / "full", "1.jpg.json", "1.png.json")
    assert names(folder, "images/1.jpg", "images/1.png") == ["1.jpg.json", "1.png.json"]
    folder = make(tmp_path / "flat", "1.json")
    with pytest.raises(GsegError, match=r"both images/left/1.jpg and images/right/1.jpg"):
        names(folder, "images/left/1.jpg", "images/right/1.jpg")


@pytest.mark.parametrize(
    ("images", "advice"),
    [
        (("images/left/1.jpg", "images/right/1.jpg"), ("left/1.json", "right/1.json")),
        (("images/1.jpg", "images/right/1.jpg"), ("1.json", "right/1.json")),
        (("images/a/left/1.jpg", "images/b/left/1.jpg"), ("a/left/1.json", "b/left/1.json")),
        (("images/1.jpg", "images/1.png"), ("1.jpg.json", "1.png.json")),
    ],
)
def test_what_is_advised_for_two_images_of_one_name_helps(
    images: tuple[str, str], advice: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(GsegError) as refused:
        names(make(tmp_path / "flat", "1.json"), *images)
    assert str(refused.value).endswith(f": {advice[0]} and {advice[1]}.")
    assert names(make(tmp_path / "other", *advice), *images) == list(advice)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(GsegError, match="does not exist"):
        MaskFolder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".1.json").touch()
    with pytest.raises(GsegError, match="no mask files"):
        MaskFolder(tmp_path / "empty")
    with pytest.raises(GsegError, match="two masks for 1"):
        make(tmp_path / "two", "1.json", "1.png")
    with pytest.raises(GsegError, match=r"such as a\).*images/b\.jpg"):
        names(make(tmp_path / "other", "a.json"), "images/b.jpg")

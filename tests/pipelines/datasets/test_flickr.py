"""Tests of the text files of Flickr8k and Flickr30k, in the form in which they are published."""

from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.datasets.importer import DatasetFiles, import_dataset

CAPTIONS = """1000268201_693b08cb0e.jpg#0\tA child in a pink dress is climbing up a set of stairs in an entry way .
1000268201_693b08cb0e.jpg#1\tA girl going into a wooden building .
1001773457_577c3a7d70.jpg#0\tA black dog and a "spotted" dog are fighting
1001773457_577c3a7d70.jpg#1\tTwo dogs , 50 % brown #2 , on pavement .\t
1002674143_1b742ab4b8.jpg#0\tA little girl covered in paint .
2258277193_586949ec62.jpg.1#0\tsome people staring at a weird parking lot .
"""
"""The last photo is in none of the lists, and its file does not exist: as in Flickr8k.token.txt."""


@pytest.fixture
def flickr(tmp_path: Path) -> Path:
    (tmp_path / "Flickr8k.token.txt").write_text(CAPTIONS)
    for name, photos in (("train", ["1001773457_577c3a7d70.jpg"]), ("dev", ["1000268201_693b08cb0e.jpg"])):
        (tmp_path / f"Flickr_8k.{name}Images.txt").write_text("".join(f"{photo}\n" for photo in photos))
    (tmp_path / "Flickr_8k.testImages.txt").write_text("1002674143_1b742ab4b8.jpg\r\n")
    for name in ("1000268201_693b08cb0e.jpg", "1001773457_577c3a7d70.jpg", "1002674143_1b742ab4b8.jpg"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def files(folder: Path, *lists: str) -> DatasetFiles:
    given = (f"{split}={folder}/Flickr_8k.{name}Images.txt" for split, name in (entry.split(":") for entry in lists))
    return DatasetFiles((f"{folder}/Flickr8k.token.txt", *given))


def test_captions_are_joined_with_split_lists(flickr: Path, capsys: pytest.CaptureFixture[str]):
    manifest = import_dataset(files(flickr, "train:train", "val:dev", "test:test"), flickr)
    assert [(photo.key, photo.split, photo.captions) for photo in manifest.photos()] == [
        (
            "1000268201_693b08cb0e",
            "val",
            (
                "A child in a pink dress is climbing up a set of stairs in an entry way .",
                "A girl going into a wooden building .",
            ),
        ),
        (
            "1001773457_577c3a7d70",
            "train",
            ('A black dog and a "spotted" dog are fighting', "Two dogs , 50 % brown #2 , on pavement ."),
        ),
        ("1002674143_1b742ab4b8", "test", ("A little girl covered in paint .",)),
    ]
    assert manifest.name == "Flickr8k"
    assert "1 photos of" in (shown := capsys.readouterr().err)
    assert "are in no split list and left out" in shown


def test_lists_may_have_names_without_ending(flickr: Path):
    """Flickr30k Entities has such lists."""
    (flickr / "test.txt").write_text("1002674143_1b742ab4b8\n\n1000268201_693b08cb0e\n")
    given = DatasetFiles((f"{flickr}/Flickr8k.token.txt", f"test={flickr}/test.txt"), "flickr")
    manifest = import_dataset(given, flickr)
    assert [(photo.key, photo.split) for photo in manifest.photos()] == [
        ("1000268201_693b08cb0e", "test"),
        ("1002674143_1b742ab4b8", "test"),
    ]


def test_windows_line_ends_and_a_byte_order_mark_are_accepted(flickr: Path):
    (flickr / "Flickr8k.token.txt").write_bytes(b"\xef\xbb\xbf" + CAPTIONS.replace("\n", "\r\n").encode())
    manifest = import_dataset(files(flickr, "train:train"), flickr)
    assert [photo.captions[1] for photo in manifest.photos()] == ["Two dogs , 50 % brown #2 , on pavement ."]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg\tno number", r"line 7 \('a.jpg\\tno number'\) is not `<file name>#<number>`, a tab and a caption"),
        ("a.jpg#0 no tab", "line 7 .* is not"),
        ("http://host/a.jpg#0\tx", "line 7 .* is not"),
        ("/etc/passwd#0\tx", "line 7 .*must stay below the photo root"),
    ],
)
def test_an_invalid_line_is_named(flickr: Path, line: str, message: str):
    with (flickr / "Flickr8k.token.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=message) as caught:
        import_dataset(files(flickr), flickr)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a.jpg#0\tcaf\xe9\n", "is not UTF-8 text"),
        (b"a.jpg#0\tx\rb.jpg#0\ty\r", r"has a carriage return inside; end lines with \\n"),
    ],
)
def test_a_line_that_is_not_text_is_named(flickr: Path, line: bytes, reason: str):
    """A file whose lines end in carriage returns was one photo."""
    with (flickr / "Flickr8k.token.txt").open("ab") as file:
        file.write(line)
    with pytest.raises(UserError, match=rf"not readable as text \(line 7 {reason}\); save it as UTF-8"):
        import_dataset(files(flickr), flickr)


def test_contradicting_lists_are_refused(flickr: Path):
    with pytest.raises(UserError, match=r"line 1 .*: its split is 'val', but another entry of this photo has 'train'"):
        import_dataset(files(flickr, "train:train", "val:train"), flickr)
    (flickr / "Flickr_8k.devImages.txt").write_text("none.jpg\n")
    with pytest.raises(UserError, match=r"line 1: 'none.jpg' is not the name of one photo of the other"):
        import_dataset(files(flickr, "val:dev"), flickr)
    with pytest.raises(UserError, match="has split lists only; also give the file with the captions"):
        import_dataset(f"val={flickr}/Flickr_8k.devImages.txt", flickr)
    with pytest.raises(UserError, match=r"it is a list of the photos of a split; give --format, or train=/.*devImages"):
        import_dataset(f"{flickr}/Flickr_8k.devImages.txt", flickr)

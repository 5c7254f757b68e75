"""Tests of the table importer: CSV, JSON lines and Parquet give the same manifest."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import UserError
from pipelines.datasets.columns import parse_columns
from pipelines.datasets.importer import DatasetFiles, import_dataset
from pipelines.datasets.manifest import Photo

ROWS = [
    {"uri": "a.jpg", "split": "train", "captions": ["a dog, running", 'it "barks"']},
    {"uri": "http://host/b.c.jpg", "split": "val", "captions": ["12"]},
]
WANTED = [
    ("a", "a.jpg", "train", ("a dog, running", 'it "barks"')),
    ("b_c", "http://host/b.c.jpg", "val", ("12",)),
]


@pytest.fixture(autouse=True)
def photo(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")


def rows(path: Path) -> list[tuple]:
    manifest = import_dataset(path, path.parent)
    return [(row.key, row.source, row.split, row.captions) for row in manifest.photos()]


def test_json_lines_and_parquet_contain_lists_of_captions(tmp_path: Path):
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    assert rows(tmp_path / "d.jsonl") == rows(tmp_path / "d.parquet") == WANTED


def test_csv_has_one_row_per_caption_and_all_columns_are_text(tmp_path: Path):
    text = 'uri,split,caption\na.jpg,train,"a dog, running"\nhttp://host/b.c.jpg,val,12\na.jpg,train,"it ""barks"""\n'
    (tmp_path / "d.csv").write_text(text)
    assert rows(tmp_path / "d.csv") == WANTED


def test_default_split_is_train_and_keys_come_from_column(tmp_path: Path):
    (tmp_path / "d.csv").write_text("uri,caption,key\na.jpg,x,mine\n")
    assert rows(tmp_path / "d.csv") == [("mine", "a.jpg", "train", ("x",))]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "d.csv",
            "path,caption\na.jpg,x\n",
            r"are path, caption; name the one of the images \(--columns image=NAME\)",
        ),
        ("d.csv", "uri,caption\na.jpg\n", r"not readable as csv \(line 2 has 1 values, the header 2\)"),
        (
            "d.csv",
            'uri,caption\na.jpg,"x\n',
            r"not readable as csv \(line 2: unexpected end of data; write a quote in a quoted value twice\)",
        ),
        ("d.csv", "uri,caption,caption\na.jpg,x,y\n", "columns have `caption` twice; rename or remove"),
        ("d.csv", "uri,caption, caption \na.jpg,x,y\n", "columns have `caption` twice"),
        ("d.csv", "uri,caption,split,split\na.jpg,x,train,val\n", "columns have `split` twice"),
        ("d.csv", "uri,caption,captions\na.jpg,x,y\n", "columns have both `caption` and `captions`"),
        ("d.csv", "uri,caption\n../a.jpg,x\n", "must stay below the photo root"),
        (
            "d.csv",
            "uri,caption\n/data/a.jpg,x\n",
            "must stay below the photo root; write it relative to --photos, or as file:///path",
        ),
        (
            "d.csv",
            "uri,caption,split\na.jpg,x,train\na.jpg,y,val\n",
            r"row 2 \(a.jpg\): its split is 'val', .* 'train'",
        ),
        ("d.csv", "uri,caption,key\na.jpg,x,k\na.jpg,y,l\n", r"row 2 \(a.jpg\): its key is 'l', .* has 'k'"),
        ("d.csv", "uri,caption,key\na.jpg,x,k\nb.jpg,y,k\n", "row 2: b.jpg and a.jpg share the key k"),
        ("d.csv", "uri,caption,key\na.jpg,x,a/b\n", "key is 'a/b'"),
        (
            "d.jsonl",
            '{"uri": "a.jpg", "captions": ["x"]}\n{"uri": "a.jpg", "captions": ["y"]}\n',
            r"row 2: a.jpg is listed twice",
        ),
        ("d.jsonl", '{"uri": 3, "captions": ["x"]}\n', "row 1 .* must be text"),
        ("d.jsonl", '{"uri": "a.jpg", "captions": [3]}\n', r"row 1 .*: captions is \[3\]; it must be text"),
        ("d.jsonl", '{"uri": "a.jpg", "caption": 12}\n', "row 1 .* must be text"),
        (
            "d.jsonl",
            '{"uri": "a.jpg", "caption": "x", "key": 1.2}\n',
            r"row 1 \('a\.jpg'\): key is 1.2; it must be text",
        ),
        ("d.csv", "uri,captions\na.jpg,\"['a dog', 'a cat']\"\n", "row 1 .*`captions` is the text of a list"),
        ("d.jsonl", '{"uri": "a.jpg", "caption": "x", "key": false}\n', "row 1 .* must be text"),
        ("d.jsonl", '{"uri": "a.jpg", "caption": "x", "split": 0}\n', "row 1 .* must be text"),
        ("d.jsonl", '{"uri": "a.jpg", "caption": "x", "split": []}\n', "row 1 .* must be text"),
        ("d.jsonl", '{"uri": "a.jpg", "caption": "x", "caption": "y"}\n', "line 1: fields have `caption` twice"),
        ("d.jsonl", '{"uri": "a.jpg", "caption": "x", "captions": ["y"]}\n', "have both `caption` and `captions`"),
        ("d.jsonl", '{"uri": "a.jpg", "caption": "x"}\n{"url": "b.jpg"}\n', "line 2: fields are url; name the one of"),
        ("d.jsonl", '["uri"]\n', "not readable as jsonl .line 1 is not a JSON object"),
        ("d.jsonl", "nonsense", "not readable as jsonl .line 1: "),
        ("d.csv", "", "not readable as csv .it has no header line"),
        ("d.csv", "\nuri,caption\n", "not readable as csv .it has no header line"),
        ("d.parquet", "nonsense", "not readable as parquet"),
    ],
)
def test_an_invalid_table_is_reported(tmp_path: Path, name: str, text: str, message: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        rows(tmp_path / name)


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.jsonl", "captions.txt"])
def test_a_line_that_is_not_text_is_named(tmp_path: Path, name: str):
    header = {"d.tsv": b"uri\tcaption\n", "d.jsonl": b""}.get(name, b"uri,caption\n")
    row = {"d.tsv": b"a.jpg\tx\n", "d.jsonl": b'{"uri": "a.jpg", "caption": "x"}\n'}.get(name, b"a.jpg,x\n")
    (tmp_path / name).write_bytes(header + 30_000 * row + row.replace(b"x", b"\xff") + row)
    line = 30_001 + bool(header)
    with pytest.raises(UserError, match=rf"not readable as \w+ \(line {line} is not UTF-8 text\)"):
        rows(tmp_path / name)


def test_unclosed_quote_is_reported_with_its_line(tmp_path: Path):
    """The reader finds it at the end of the file only."""
    (tmp_path / "d.csv").write_text("uri,caption\n" + "a.jpg,x\n" * 10 + 'a.jpg,"x\n' + "a.jpg,x\n" * 1000)
    with pytest.raises(
        UserError,
        match=r"not readable as csv \(line 12: unexpected end of data; write a quote in a quoted value twice\)",
    ):
        rows(tmp_path / "d.csv")


def test_kaggle_captions(tmp_path: Path):
    """`captions.txt` of Kaggle's Flickr8k and Flickr30k data sets: a header, and quotes around captions with commas."""
    text = (
        "image,caption\na.jpg,A child in a pink dress is climbing up a set of stairs in an entry way .\n"
        'a.jpg,"A man in a blue shirt , standing on a ""ladder"" , cleaning a window ."\n'
    )
    (tmp_path / "captions.txt").write_text(text)
    (row,) = rows(tmp_path / "captions.txt")
    assert row[3] == (
        "A child in a pink dress is climbing up a set of stairs in an entry way .",
        'A man in a blue shirt , standing on a "ladder" , cleaning a window .',
    )


def test_photos_without_captions_are_in_the_gallery(tmp_path: Path):
    (tmp_path / "d.csv").write_text("uri,caption,split\na.jpg,,test\nhttp://host/b.jpg, ,\nhttp://host/c.jpg,x,\n")
    wanted = [
        ("a", "a.jpg", "test", ()),
        ("b", "http://host/b.jpg", "gallery", ()),
        ("c", "http://host/c.jpg", "train", ("x",)),
    ]
    assert rows(tmp_path / "d.csv") == wanted
    (tmp_path / "d.jsonl").write_text('{"uri": "a.jpg"}\n{"uri": "http://host/b.jpg", "captions": []}\n')
    assert [row[2:] for row in rows(tmp_path / "d.jsonl")] == [("gallery", ()), ("gallery", ())]


def test_wordless_captions_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    lines = ["uri,caption,split", "a.jpg,x,", "http://host/b.jpg,...,", "a.jpg,\u2764,", "http://host/c.jpg,?!,val"]
    (tmp_path / "d.csv").write_text("\n".join(lines))
    found = [(key, split, captions) for key, _, split, captions in rows(tmp_path / "d.csv")]
    assert found == [("a", "train", ("x",)), ("b", "gallery", ()), ("c", "val", ())]
    note = f"3 captions of {tmp_path}/d.csv contain no word and are left out (first in row 2)"
    assert capsys.readouterr().err.splitlines() == [note]
    (tmp_path / "d.jsonl").write_text('{"uri": "a.jpg", "captions": ["", "x"]}\n')
    assert rows(tmp_path / "d.jsonl") == [("a", "a.jpg", "train", ("x",))]


QUOTED = 'caption\turi\n"a ""b"" c"\ta.jpg\n"of\ttabs"\ta.jpg\n"of\nlines"\ta.jpg\n'
UNQUOTED = 'caption\turi\r\n"a b" c\ta.jpg\r\n\r\n"d\ta.jpg\r\ne "f"\ta.jpg\r\n"g"\ta.jpg\r\n"h\ta.jpg\r\n'


@pytest.mark.parametrize(
    ("text", "captions"),
    [(QUOTED, ('a "b" c', "of\ttabs", "of\nlines")), (UNQUOTED, ('"a b" c', '"d', 'e "f"', "g", '"h'))],
)
def test_quotes_of_tsv(tmp_path: Path, text: str, captions: tuple[str, ...]):
    """Conceptual Captions does not quote: quotes there are part of the captions, and may be unbalanced."""
    (tmp_path / "d.tsv").write_bytes(text.encode())
    assert rows(tmp_path / "d.tsv") == [("a", "a.jpg", "train", captions)]


def test_an_invalid_quote_of_tsv_is_named(tmp_path: Path):
    (tmp_path / "d.tsv").write_text('caption\turi\nx\ta.jpg\n"a" b\ta.jpg\ty\n')
    with pytest.raises(
        UserError, match=r"\(line 3: a tab expected after '\"'; write a quote in a quoted value twice\)"
    ):
        rows(tmp_path / "d.tsv")


@pytest.mark.parametrize(
    ("name", "text", "is_noted"),
    [
        ("d.csv", "uri,TEXT\na.jpg,x\n", True),
        ("d.csv", "uri,caption,TEXT\na.jpg,,x\n", False),
        ("d.csv", "uri\na.jpg\n", False),
        ("d.jsonl", '{"uri": "a.jpg", "TEXT": "x"}\n', True),
        ("d.jsonl", '{"uri": "a.jpg", "TEXT": "x"}\n{"uri": "http://host/b.jpg", "caption": "y"}\n', False),
    ],
)
def test_columns_that_may_have_captions_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, is_noted: bool
):
    (tmp_path / name).write_text(text)
    rows(tmp_path / name)
    note = f"{tmp_path / name}: no captions: the import reads uri, but not TEXT; if one of them has captions"
    assert capsys.readouterr().err.startswith(note) is is_noted


def test_columns_may_have_other_names(tmp_path: Path):
    (tmp_path / "d.tsv").write_text("TEXT\turl\tcaption\tid\nx\thttp://host/b.jpg\tgarbled\t7\n")
    columns = parse_columns("image=url,caption=TEXT,key=id")
    manifest = import_dataset(DatasetFiles((str(tmp_path / "d.tsv"),), None, columns), tmp_path)
    assert list(manifest.photos()) == [Photo("7", "http://host/b.jpg", "train", ("x",))]


TEXTS = ["2024-01-31", "2024-01-31T12:00:00Z", "007", "1e3", "true", "NA", "null", "0.10"]
"""Captions and keys that a reader which guesses types reads as dates, numbers, truth values and missing values."""


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_values_stay_text(tmp_path: Path, suffix: str):
    names = [text.replace(":", "-").replace(".", "-") for text in TEXTS]
    for name in names:
        (tmp_path / f"{name}.jpg").write_bytes(b"x")
    table = [{"uri": f"{name}.jpg", "caption": text, "key": name} for name, text in zip(names, TEXTS, strict=True)]
    if suffix == "csv":
        lines = ["uri,caption,key", *(",".join(row.values()) for row in table)]
    else:
        lines = [json.dumps(row) for row in table]
    (tmp_path / f"d.{suffix}").write_text("\n".join(lines))
    assert rows(tmp_path / f"d.{suffix}") == [(row["key"], row["uri"], "train", (row["caption"],)) for row in table]


def test_columns_that_nobody_needs_are_not_read(tmp_path: Path):
    """Mixed types, values of megabytes, the same name twice, and types that have no Python value."""
    long = "z" * 3_000_000
    (tmp_path / "d.csv").write_text(f"uri,caption,,,n,n\na.jpg,x,,,1,{long}\na.jpg,y,,,one,2\n")
    (tmp_path / "d.jsonl").write_text(
        '{"uri": "a.jpg", "captions": ["x", "y"], "n": 1, "n": "one", "m": {"a": [1]}}\n'
        f'{{"m": "{long}", "uri": "http://host/b.jpg", "captions": ["z"], "n": [1, "2"]}}\n'
    )
    columns = [["a.jpg"], [["x", "y"]], [1], ["one"], pa.array([2**40], pa.timestamp("s"))]
    pq.write_table(pa.table(columns, names=["uri", "captions", "n", "n", "time"]), tmp_path / "d.parquet")
    first = ("a", "a.jpg", "train", ("x", "y"))
    assert rows(tmp_path / "d.csv") == rows(tmp_path / "d.parquet") == [first]
    assert rows(tmp_path / "d.jsonl") == [first, ("b", "http://host/b.jpg", "train", ("z",))]


def test_a_doubled_column_of_parquet_is_an_error(tmp_path: Path):
    pq.write_table(pa.table([["a.jpg"], ["x"], ["y"]], names=["uri", "caption", "caption"]), tmp_path / "d.parquet")
    with pytest.raises(UserError, match="columns have `caption` twice"):
        rows(tmp_path / "d.parquet")


def test_byte_order_marks_suffixes_and_line_separators(tmp_path: Path):
    (tmp_path / "d.CSV").write_bytes("\ufeffuri , caption\r\na.jpg,x\r\n\r\n".encode())
    (tmp_path / "d.JSONL").write_text('\ufeff{"uri": "a.jpg", "caption": "x\u2028y", "key": null}\n\n')
    assert rows(tmp_path / "d.CSV") == [("a", "a.jpg", "train", ("x",))]
    assert rows(tmp_path / "d.JSONL") == [("a", "a.jpg", "train", ("x\u2028y",))]

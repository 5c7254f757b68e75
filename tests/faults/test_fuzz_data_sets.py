"""Readers of data sets on seeded corrupt input: each returns a correct result or raises one UserError.

A result is correct if an independent reader of the same input agrees or, where the input carries checksums, if it is
what was stored.
"""

import csv
import io
import json
import os
import posixpath
import random
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import webdataset

from pipelines.datasets.decode import PhotoError
from pipelines.datasets.formats import TABLES, detect_format
from pipelines.datasets.importer import DatasetFiles, dataset_rows, import_dataset
from pipelines.datasets.manifest import SPLITS, Manifest
from pipelines.datasets.photo_sources import photo_uri, read_photo
from pipelines.datasets.rows import DatasetFile
from pipelines.datasets.stored_tar_index import INDEXES
from shan_model.vocabulary import has_word
from tests.support.mutations import corrupted, edited
from tests.support.tally import Inputs, Tally
from tests.support.webdataset_tars import img2dataset_shard


def is_valid(manifest: Manifest) -> bool:
    """Returns whether a manifest has unique keys, no empty caption, known splits and sources inside the photo root."""
    photos = list(manifest.photos())
    keys = {photo.key for photo in photos}
    captions = all(c.strip() for photo in photos for c in photo.captions)
    below = all("://" in photo.source or ".." not in Path("/", photo.source).parts for photo in photos)
    below &= not any(photo.source.startswith("/") for photo in photos)
    return below and len(keys) == len(photos) and captions and all(photo.split in SPLITS for photo in photos)


def read_rows(path: Path) -> Manifest:
    """Returns the manifest of a data set whose photos need not exist."""
    name, rows = dataset_rows(path)
    return Manifest.build(name, "", rows)


def test_karpathy(tmp_path: Path, inputs: Inputs):
    images = [
        {"filename": f"{i}.jpg", "split": split, "sentences": [{"raw": f"a photo {i}"}, {"raw": "Zwölf Boxkämpfer"}]}
        for i, split in enumerate(("train", "restval", "val", "test"))
    ]
    document = {"dataset": "tiny", "images": images}
    path, tally = tmp_path / "dataset.json", Tally("karpathy", inputs)

    def is_right(manifest: Manifest) -> bool:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))["images"]
        captions = [[s["raw"].strip() for s in row["sentences"] if has_word(s["raw"])] for row in rows]
        return is_valid(manifest) and [list(photo.captions) for photo in manifest.photos()] == captions

    mutate_json(path, document, tally, is_right)


def test_coco(tmp_path: Path, inputs: Inputs):
    images = [{"id": i, "file_name": f"{i}.jpg", "coco_url": f"http://host/train2017/{i}.jpg"} for i in range(1, 5)]
    annotations = [{"image_id": 1 + n % 4, "id": n, "caption": f"Zwölf Boxkämpfer {n}"} for n in range(8)]
    document = {"images": images, "annotations": annotations}
    path, tally = tmp_path / "captions_train2017.json", Tally("coco", inputs)

    def is_right(manifest: Manifest) -> bool:
        read = json.loads(path.read_text(encoding="utf-8-sig"))
        captions = {
            image["file_name"]: [
                a["caption"].strip()
                for a in read.get("annotations", [])
                if a["image_id"] == image["id"] and has_word(a["caption"])
            ]
            for image in read["images"]
        }
        return is_valid(manifest) and {p.source: list(p.captions) for p in manifest.photos()} == captions

    mutate_json(path, document, tally, is_right)


def mutate_json(path: Path, document: dict[str, Any], tally: Tally, is_right: Callable[[Manifest], bool]) -> None:
    """Reads corrupt bytes of a document and documents with edited fields, in equal parts."""
    half = tally.inputs // 2
    for data in corrupted(json.dumps(document, ensure_ascii=False).encode(), half, seed=1):
        path.write_bytes(data)
        tally(partial(read_rows, path), is_right, data)
    for changed in edited(document, half, seed=2):
        path.write_text(json.dumps(changed))
        tally(partial(read_rows, path), is_right, changed)
    tally.check()


def test_flickr(tmp_path: Path, inputs: Inputs):
    """Captions and a split list take turns. A line gives a caption of the photo before its last `#`, or an error."""
    photos = ["a.jpg", "b c.jpg", "é#1.jpg"]
    token, train = tmp_path / "token.txt", tmp_path / "train.txt"
    good = {
        token: "".join(f'{photo}#{n}\t{n} Boxkämpfer , in "{photo}" .\n' for photo in photos for n in range(2)),
        train: "".join(f"{photo}\n" for photo in photos[:2]),
    }
    for path, text in good.items():
        path.write_text(text)
    tally = Tally("flickr", inputs)

    def read() -> Manifest:
        name, rows = dataset_rows(DatasetFiles((str(token), f"train={train}"), "flickr"))
        return Manifest.build(name, "", rows)

    def is_right(manifest: Manifest) -> bool:
        lines = [line for line in token.read_bytes().decode("utf-8-sig").split("\n") if line.strip("\r")]
        captions: dict[str, list[str]] = {}
        for line in lines:
            name, _, caption = line.partition("\t")
            captions.setdefault(name.rpartition("#")[0], []).extend([caption.strip()] if has_word(caption) else [])
        return is_valid(manifest) and all(list(p.captions) == captions[p.source] for p in manifest.photos())

    for path, text in good.items():
        for data in corrupted(text.encode(), tally.inputs // 2, seed=3):
            path.write_bytes(data)
            tally(read, is_right, data)
        path.write_text(text)
    tally.check()


def test_tables(tmp_path: Path, inputs: Inputs):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"x")
    rows = [{"uri": f"{name}.png", "caption": f"a {name}, of course", "split": "train"} for name in "aabbcc"]
    table = pa.Table.from_pylist(rows)
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink, write_page_checksum=True)
    intact = {
        "csv": delimited(tmp_path / "good.csv", rows, ","),
        "tab": delimited(tmp_path / "good.tsv", rows, "\t"),
        "jsonl": "\n".join(json.dumps(row) for row in rows).encode(),
        "parquet": sink.getvalue().to_pybytes(),
    }
    for number, (kind, data) in enumerate(intact.items()):
        path, tally = tmp_path / f"t.{kind.replace('tab', 'tsv')}", Tally(kind, inputs)
        for changed in corrupted(data, tally.inputs, seed=10 + number):
            path.write_bytes(changed)
            tally(partial(import_dataset, path, tmp_path), partial(has_every_row, path), changed)
        tally.check()


def delimited(path: Path, rows: list[dict[str, str]], delimiter: str) -> bytes:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path.read_bytes()


def has_every_row(path: Path, manifest: Manifest) -> bool:
    """Returns whether a manifest has the captions of all rows, but for those that contain no word."""
    file = DatasetFile(str(path), path, {}, "")
    captions = sum(has_word(caption) for row in TABLES[detect_format(file)](file) for caption in row.captions)
    return is_valid(manifest) and sum(len(photo.captions) for photo in manifest.photos()) == captions


def test_images_in_parquet(tmp_path: Path, inputs: Inputs):
    """The reader returns bytes, which are checked when they are decoded, or rejects the photo."""
    rows = [{"image": {"bytes": bytes([n]) * 300, "path": f"{n}.jpg"}, "caption": f"{n}"} for n in range(6)]
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    total, rejected = inputs("images"), 0
    for number, data in enumerate(corrupted(path.read_bytes(), total, seed=70)):
        changed = tmp_path / f"{number}.parquet"
        changed.write_bytes(data)
        try:
            assert isinstance(read_photo(f"parquet://image/{number % 6}::{changed}"), bytes)
        except PhotoError:
            rejected += 1
        changed.unlink()
    print(f"images: {total} inputs, {rejected} rejected")
    assert 0 < rejected < total


def test_webdataset(tmp_path: Path, inputs: Inputs):
    """Every image that webdataset reads is read from its place, with the captions that webdataset reads."""
    images = [(f"00000000{n}", bytes([n]) * (300 * n), f"Foto {n}" * (n % 2)) for n in range(1, 5)]
    data = img2dataset_shard(tmp_path / "good.tar", images).read_bytes()
    tally = Tally("webdataset", inputs)

    def is_right(manifest: Manifest, path: Path) -> bool:
        members = members_of(path)
        found = {}
        for photo in manifest.photos():
            with suppress(PhotoError):
                content = read_photo(photo_uri(manifest.root, photo.source))
                found[photo.source.split("/", 2)[2]] = content, photo.captions
        expected = {
            name: (content, captions_of(name, members)) for name, content in members.items() if name.endswith(".jpg")
        }
        return is_valid(manifest) and found == expected

    for number, changed in enumerate(corrupted(data[: data.rindex(b"}") + 2048], tally.inputs, seed=80)):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(changed)
        tally(partial(import_dataset, path), partial(is_right, path=path), number)
        path.unlink()
    tally.check()


def members_of(path: Path) -> dict[str, bytes]:
    """Returns the members that webdataset reads before its first error."""
    members = {}
    with suppress(Exception):
        for member in webdataset.tariterators.tar_file_iterator(io.BytesIO(path.read_bytes())):
            members[posixpath.normpath(member["fname"]).lstrip("/")] = member["data"]
    return members


def captions_of(image: str, members: dict[str, bytes]) -> tuple[str, ...]:
    """Returns the caption of an image, from its `.json` or else from its `.txt`."""
    stem = image.partition(".")[0]
    caption = json.loads(members.get(f"{stem}.json", b"{}")).get("caption")
    lines = [caption] if caption else members.get(f"{stem}.txt", b"").decode("utf-8-sig").split("\n")
    return tuple(line.strip() for line in lines if line.strip())


NAMES = ["a", "A", "b", "写真", "Zu\u0308rich", "\u202e\U0001f984", "a b", "100%", "%2e%2e", "a?b#c"]
NAMES += ["it's", '"', "a\nb", "\\", "*", "[a]", "{0..9}", "..a", ".hidden", "~", "-", "a:b@c", "x.tar", "\udcff"]
NAMES += ["x" * 240]
"""Names of files and folders, one of them not Unicode."""
SUFFIXES = (".jpg", ".jpg", ".JPG", ".png", ".tif", ".webp", ".txt", ".jpg.json", ".jpg ", ".", "")
TARGETS = (".", "..", "a", "a.jpg", "none", "../../a", __file__)
"""Targets of links: loops, files, and none."""


def test_folder(tmp_path: Path, inputs: Inputs):
    """Every image that `os.walk` finds is read from its place, and a link to nothing is missing; pipes are left out.

    So are files and folders whose names start with a dot.

    All folders that links name are above the folder or in it, so that they are listed once.
    """
    tally, rng = Tally("folder", inputs), random.Random(84)  # noqa: S311
    for number in range(tally.inputs):
        folder = write_odd_folder(tmp_path / str(number), rng)
        images = images_of(folder)

        def is_right(manifest: Manifest, images: dict[str, bytes] = images) -> bool:
            found = {
                p.source: read_photo(photo_uri(manifest.root, p.source)) if p.version_token else b""
                for p in manifest.photos()
            }
            return is_valid(manifest) and list(found.items()) == sorted(images.items())

        before = tally.refused
        given = DatasetFiles((str(folder),), "folder")  # a file may have the ending of a tar
        tally(partial(import_dataset, given), is_right, sorted(images))
        assert (tally.refused > before) == (not images or not is_unicode(images)), sorted(images)
        shutil.rmtree(folder)
    tally.check()


def write_odd_folder(folder: Path, rng: random.Random) -> Path:
    """Writes images, other files, folders, links and pipes with odd names, leaving out what cannot be written."""
    folder.mkdir()
    links = []
    for number in range(rng.randrange(1, 9)):
        path = folder.joinpath(*rng.choices(NAMES, k=rng.randrange(1, 4)))
        path = path.with_name(path.name + rng.choice(SUFFIXES))
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = rng.randrange(8)
            if kind == 0:
                links.append(path)
            elif kind == 1:
                path.mkdir()
            elif kind == 2:
                os.mkfifo(path)
            else:
                with path.open("xb") as file:
                    file.write(b"image %d" % number)
    for path in links:  # last, so that nothing is written through them
        with suppress(OSError):
            path.symlink_to(rng.choice(TARGETS))
    return folder


def images_of(folder: Path) -> dict[str, bytes]:
    """Returns the content of all images by their paths below a folder; b"" for a link to nothing."""
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            is_image = name.lower().endswith((".jpg", ".png", ".tif", ".webp")) and not name.startswith(".")
            if is_image and os.path.isfile(path):  # noqa: PTH113 - independent of pathlib
                found[os.path.relpath(path, folder)] = path.read_bytes()
            elif is_image and not os.path.exists(path):  # noqa: PTH110
                found[os.path.relpath(path, folder)] = b""
    return found


def is_unicode(names: Iterable[str]) -> bool:
    return "\udcff" not in "".join(names)


def test_stored_tar_indexes(tmp_path: Path, inputs: Inputs):
    """A corrupt index is written again."""
    path = img2dataset_shard(tmp_path / "a.tar", [(f"{n}", bytes([n]) * 300, f"{n}") for n in range(6)])
    expected = import_dataset(path, None, str(tmp_path)).table
    (stored,) = (tmp_path / INDEXES).iterdir()
    good, total = stored.read_bytes(), inputs("tar index")
    for changed in corrupted(good, total, seed=81):
        stored.write_bytes(changed)
        assert import_dataset(path, None, str(tmp_path)).table == expected
        assert stored.read_bytes() == good

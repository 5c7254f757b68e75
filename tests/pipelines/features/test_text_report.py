"""What the commands print about feature sets."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import webdataset

from pipelines.datasets.manifest import Manifest
from pipelines.features import text_report
from pipelines.features.feature_set import FeatureSet
from pipelines.features.orphans import OrphanedObject, Orphans
from pipelines.features.text_report import (
    error_lines,
    inspect_text,
    list_orphans,
    orphans_text,
    published_text,
    verify_text,
)
from pipelines.features.verify import Verification
from tests.support.feature_sets import manifest, write_set


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return write_set(tmp_path, manifest(tmp_path))


def test_a_published_set_accounts_for_every_photo(features: FeatureSet):
    assert published_text(features, "(4 written now)").splitlines() == [
        features.pinned_uri,
        "  6 photos planned = 5 written + 1 rejected, in 4 shards (4 written now)",
        "  rejected 1 x 'not an image'",
        f"  first p3.png; all of them in {features.uri}/quarantine.parquet",
    ]


def test_without_rejections_there_is_no_list_of_reasons(tmp_path: Path):
    photos = Manifest.build("tiny", str(tmp_path), list(manifest(tmp_path).photos())[:2])
    assert published_text(write_set(tmp_path, photos), "now").splitlines()[1:] == [
        "  2 photos planned = 2 written + 0 rejected, in 1 shards now"
    ]


def test_a_verification_states_what_was_read():
    found = Verification("/x@0", (), shards=4, photos=5, rejected=1, size=41_000, seconds=0.5)
    assert verify_text(found).splitlines() == [
        "/x@0: intact",
        "  4 shards, 5 photos written + 1 rejected, 41 kB in 0.5 s (0 MB/s)",
    ]


def test_integrity_errors_are_counted_and_twenty_listed():
    assert error_lines("/x", []) == ["/x: intact"]
    assert error_lines("/x", ["a", "b"]) == ["integrity error: a", "integrity error: b", "/x: 2 integrity errors"]
    lines = error_lines("/x", [str(n) for n in range(59)])
    assert lines[19:] == ["integrity error: 19", "and 39 more integrity errors", "/x: 59 integrity errors"]


def test_an_inspection_has_content_and_lineage(features: FeatureSet, tmp_path: Path):
    lines = inspect_text(features).splitlines()
    for line in (
        f"data set tiny, photos from {tmp_path}/photos",
        "detector made-up (made-up-0123): 3 regions x 8 per photo",
        *(f"{name:12} {digest}" for name, digest in features.lineage.items()),
        "train        3 photos, 6 captions, 2 shards, 20.5 kB; 1 rejected",
        "rejected     1 x 'not an image'",
        f"snapshot     @{features.index.feature_set[:12]}: 5 photos in 4 shards (current)",
        "  confidences: [0.9, 0.5, 0.05]",
    ):
        assert line in lines
    assert re.search(r"^sample       p[012] \(train\), 3 boxes$", "\n".join(lines), re.MULTILINE)


def test_a_range_of_regions_and_long_values(tmp_path: Path):
    long = {f"p{i}": {"meta": {"captions": ["word " * 40, "x"]}} for i in range(6)}
    features = write_set(tmp_path, manifest(tmp_path), long)
    ranged = replace(
        features, index=replace(features.index, detector=replace(features.index.detector, region_range=(1, 3)))
    )
    text = inspect_text(ranged)
    assert "(made-up-0123): 1 to 3 regions x 8 per photo" in text
    (captions,) = [line for line in text.splitlines() if line.startswith("  captions: ")]
    assert captions.endswith(" ...")
    assert len(captions) == len("  captions: ") + text_report.MAX_CHARACTERS


@pytest.mark.parametrize("name", ["plain", "a b%20c?d#e{1..2}'\""])
def test_the_printed_line_opens_a_tar(tmp_path: Path, name: str):
    text = inspect_text(write_set(tmp_path / name, manifest(tmp_path)))
    line = text.split("open with")[1].split("\n")[0].strip()
    sample = eval(line, {"webdataset": webdataset, "next": next, "iter": iter})  # noqa: S307 - the line that we print
    assert (sample["__key__"], sample["regions.npy"].shape) == ("p0", (3, 8))
    assert sample["json"]["captions"] == ["a photo of 0", "number 0 <again>"]


def test_orphans_are_summed_by_kind():
    items = [
        OrphanedObject("tar", "a.tar", 2000),
        OrphanedObject("tar", "b.tar", 500),
        OrphanedObject("incomplete", ".c", None),
    ]
    assert list_orphans("/x", items) == [
        "  tar            2 kB  a.tar",
        "  tar           500 B  b.tar",
        "  incomplete        -  .c",
        "/x: 2 x tar, 1 x incomplete, 2.5 kB",
    ]
    assert list_orphans("/x", []) == ["/x: no orphaned objects, 0 B"]


def test_more_orphans_than_fit_are_counted():
    items = [OrphanedObject("tar", f"{n}.tar", 1) for n in range(text_report.MAX_ITEMS + 3)]
    lines = list_orphans("/x", items)
    assert len(lines) == text_report.MAX_ITEMS + 2
    assert lines[-2:] == ["  and 3 more", f"/x: {len(items)} x tar, {len(items)} B"]


def test_what_deleting_would_lose_is_a_warning():
    items = (OrphanedObject("snapshot", "snapshot-0.json", 1), OrphanedObject("tar", "a.tar", 1))
    said = orphans_text(
        "/x", Orphans(items, complete_shards=1, unfinished=frozenset(["a.tar", "a.receipt.json"]), foreign=3)
    )
    assert said.splitlines()[3:] == [
        "warning: 1 earlier snapshots are among them; runs that were trained on `URI@<12 hex>` of one of them lose "
        "their features",
        "warning: 1 complete shards are among them, written by an unfinished or replaced extraction; to keep them, run "
        "that extraction to its end first",
        "2 objects are complete shards of unfinished extractions; only --unfinished deletes them",
        "3 objects with other names are left alone",
    ]
    assert "warning" not in orphans_text("/x", Orphans((), 0, frozenset(), 0))

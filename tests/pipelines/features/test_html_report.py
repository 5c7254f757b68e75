"""The HTML report: one well-formed file with the right counts, and photos with their boxes."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pipelines.features.feature_set import FeatureSet
from pipelines.features.html_report import write_page
from tests.support.feature_sets import DETECTOR, HEIGHT, WIDTH, manifest, write_photos, write_set

VOID = {"meta", "img"}
OPTIONAL = {"td", "th", "tr", "tbody", "thead", "li", "dt", "dd", "p", "html"}


class Strict(HTMLParser):
    """Collects text and attributes; fails on an end tag that closes something else."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert [tag for tag in self.open if tag not in OPTIONAL] == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            while self.open and self.open[-1] != tag and self.open[-1] in OPTIONAL:
                self.open.pop()
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self.open[-1:] != ["style"] else ""


def page_of(features: FeatureSet, folder: Path) -> Strict:
    write_page(folder / "page.html", features)
    return Strict((folder / "page.html").read_text(encoding="utf-8"))


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    photos = manifest(tmp_path)
    write_photos(photos, but=["p1"])
    return write_set(tmp_path, photos)


def test_the_page_is_one_file_with_the_counts(features: FeatureSet, tmp_path: Path):
    page = page_of(features, tmp_path)
    kinds = [reference.split(";base64,")[0] for reference in page.references]
    assert kinds.count("data:image/jpeg") == 4
    assert kinds.count("data:image/svg+xml") == len(kinds) - 4 > 0
    text = " ".join(page.text.split())
    for said in ("6photos planned", "5= written", "1+ rejected", "10captions", "5 photos", "all 5 written photos"):
        assert said in text
    for value in (*features.lineage.values(), "not an image", "p3.png", "a photo of 0", "number 5 <again>"):
        assert value in page.text
    assert f"{tmp_path}/photos/p1.png: cannot be read: No such file or directory" in page.text


def test_the_same_set_gives_the_same_page(features: FeatureSet, tmp_path: Path):
    page_of(features, tmp_path / "a")
    page_of(features, tmp_path / "b")
    assert (tmp_path / "a" / "page.html").read_bytes() == (tmp_path / "b" / "page.html").read_bytes()


def test_class_frequencies(features: FeatureSet, tmp_path: Path):
    """Classes 1, 2, 1 with confidences 0.9, 0.5, 0.05 in each photo."""
    text = page_of(features, tmp_path).text
    assert "person66.7%100%100%" in text
    assert "dog33.3%100%100%" in text


def test_the_page_names_missing_boxes_classes_and_sizes(tmp_path: Path):
    photos = manifest(tmp_path)
    write_photos(photos)
    bare = {
        "boxes_R4": np.empty((0, 4), np.float32),
        "meta": {"width": None, "height": None, "classes": [], "confidences": []},
    }
    detector = replace(DETECTOR, class_names={})
    features = write_set(tmp_path, photos, {f"p{i}": bare for i in range(6)}, detector)
    page = page_of(features, tmp_path)
    for said in (
        "This feature set has no boxes",
        "This feature set has no classes",
        "Not recorded in this feature set",
    ):
        assert said in page.text
    assert sum(reference.startswith("data:image/jpeg;base64,") for reference in page.references) == 5


def test_names_cannot_break_the_page(tmp_path: Path):
    photos = manifest(tmp_path, said="<script>alert(1)</script> '\"&")
    detector = replace(DETECTOR, class_names={1: "<b>'person'", 2: "dog"}, name="<i>")
    page = page_of(write_set(tmp_path, photos, detector=detector), tmp_path)
    assert "<script>alert(1)</script> '\"& 0" in page.text
    assert "<b>'person'" in page.text


def test_the_page_has_the_sizes_of_the_photos(features: FeatureSet, tmp_path: Path):
    text = page_of(features, tmp_path).text
    assert f"{max(WIDTH, HEIGHT)} pixels for each of 5." in text


def test_the_page_shows_the_speed_of_the_stages(features: FeatureSet, tmp_path: Path):
    assert "Speed of the last extraction" not in page_of(features, tmp_path).text
    rates = {"fetch": 1234.4, "detect": 8.125}
    stages = [{"name": name, "photos_per_s": rate, "processes": 1.5, "queue": 2.25} for name, rate in rates.items()]
    report = {"photos": 1200, "seconds": 75.2, "bottleneck": "detect", "stages": stages}
    features.store.replace("report.json", json.dumps(report).encode())
    text = page_of(features, tmp_path).text
    assert "1,200 photos in 75 s" in text
    assert "fetch1,2341.502.2" in text
    assert "detect (bottleneck)8.121.502.2" in text
    for corrupt in (b"", b"[]", b'{"stages": 1}', b'{"stages": [{}], "bottleneck": ""}'):
        features.store.replace("report.json", corrupt)
        assert "Speed of the last extraction" not in page_of(features, tmp_path).text
    features.store.delete("report.json")

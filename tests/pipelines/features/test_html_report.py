"""The report page: one file, well formed, with true counts; photos with their boxes where they belong."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from pipelines.features.feature_set import FeatureSet
from pipelines.features.html_report import write_page
from pipelines.features.sample import chosen_photos, sample_records
from pipelines.reports.histogram import histogram, ticks
from pipelines.reports.photo import COLOURS, draw_boxes, photo_html
from tests.support.feature_sets import DETECTOR, HEIGHT, WIDTH, manifest, write_photos, write_set

VOID = {"meta", "img", "path"}
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


def test_the_page_is_one_file_and_tells_the_counts(features: FeatureSet, tmp_path: Path):
    page = page_of(features, tmp_path)
    assert all(reference.startswith("data:image/jpeg;base64,") for reference in page.references)
    assert len(page.references) == 4
    text = " ".join(page.text.split())
    for said in ("6photos planned", "5= written", "1+ rejected", "10captions", "5 photos", "all 5 photos"):
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
    assert "person66.7%100% / 100%" in text
    assert "dog33.3%100% / 100%" in text


def test_a_set_without_boxes_classes_and_sizes_says_so(tmp_path: Path):
    photos = manifest(tmp_path)
    write_photos(photos)
    bare = {
        "boxes_R4": np.empty((0, 4), np.float32),
        "meta": {"width": None, "height": None, "classes": [], "confidences": []},
    }
    detector = DETECTOR | {"class_names": {}}
    features = write_set(tmp_path, photos, {f"p{i}": bare for i in range(6)}, detector)
    page = page_of(features, tmp_path)
    for said in ("This feature set has no boxes", "This feature set has no classes", "This feature set does not say"):
        assert said in page.text
    assert len(page.references) == 5


def test_names_cannot_break_the_page(tmp_path: Path):
    photos = manifest(tmp_path, said="<script>alert(1)</script> '\"&")
    detector = DETECTOR | {"class_names": {"1": "<b>'person'", "2": "dog"}, "name": "<i>"}
    page = page_of(write_set(tmp_path, photos, detector=detector), tmp_path)
    assert "<script>alert(1)</script> '\"& 0" in page.text
    assert "<b>'person'" in page.text


def test_the_sample_is_by_lot_and_the_photos_come_from_every_split(tmp_path: Path):
    features = write_set(tmp_path, manifest(tmp_path, 60))
    keys = [record.key for record in sample_records(features, 20)]
    assert len(set(keys)) == 20
    assert keys == [record.key for record in sample_records(features, 20)]
    assert keys != [record.key for record in sample_records(features, 59)][:20]
    assert len(sample_records(features, 1000)) == 59
    chosen = chosen_photos(features, 12)
    assert [record.split for record in chosen] == ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    assert len({record.key for record in chosen}) == 12
    assert all(record.boxes_R4.shape == (3, 4) for record in chosen)


def image_of(html: str) -> Image.Image:
    data = re.search(r"base64,([^']*)'", html)
    assert data is not None
    return Image.open(io.BytesIO(base64.b64decode(data[1])))


def test_a_box_is_drawn_in_pixels_of_the_original_photo(tmp_path: Path):
    """A photo larger than what is decoded, shown at a tenth: the box's edges are where they should be."""
    Image.new("RGB", (4000, 2000), "white").save(tmp_path / "large.png")
    image = image_of(photo_html(str(tmp_path / "large.png"), [("", (1000, 500, 3000, 1500))], 400))
    assert image.size == (400, 200)
    pixels = np.asarray(image).astype(int)
    dark = pixels.sum(axis=2) < 600
    assert dark[100].nonzero()[0].min() in (99, 100, 101)
    assert dark[100].nonzero()[0].max() in (299, 300, 301)
    assert dark[:, 250].nonzero()[0].min() in (49, 50, 51)
    assert dark[:, 250].nonzero()[0].max() in (149, 150, 151)


def test_a_photo_lies_within_the_page(tmp_path: Path):
    Image.new("RGB", (10, 3000)).save(tmp_path / "tall.png")
    assert image_of(photo_html(str(tmp_path / "tall.png"), [], 300)).size == (2, 450)


@pytest.mark.parametrize("uri", ["nowhere/a.jpg", "tar://a.jpg::nowhere/a.tar", "ftp://host/a.jpg"])
def test_a_photo_that_is_gone_leaves_its_name(uri: str):
    assert photo_html(uri, [], 300).startswith(f"<p class=gone>{uri}: ")


def test_labels_do_not_cover_each_other():
    image = Image.new("RGB", (300, 300), "white")
    draw_boxes(image, [(f"person 0.9{i}", (20, 20, 280, 280)) for i in range(8)])
    pixels = np.asarray(image).reshape(-1, 3)
    for colour in COLOURS:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == rgb).all(axis=1).sum() > 400, f"the label in {colour} is covered"


def test_histogram_counts_every_value_once():
    for values in ([1, 2, 2, 3, 9], [0.1, 0.25, 0.5], list(range(1000)), [5, 6]):
        figure = histogram("title", values)
        svg = re.search(r"<svg.*</svg>", figure)
        assert svg is not None
        counts = [int(told.replace(",", "")) for told in re.findall(r"<title>[^:]*: ([\d,]+)</title>", svg[0])]
        assert sum(counts) == len(values)
    assert "does not say" in histogram("title", [])
    assert "5 words for each of 3." in histogram("title", [5, 5, 5], " words")


def test_histogram_bars_are_as_high_as_their_counts():
    figure = histogram("title", [1, 1, 1, 1, 3, 3], span=None)
    heights = {float(h): int(c) for h, c in re.findall(r"height=([\d.]+)><title>\d+: (\d+)", figure)}
    assert heights == {150.0: 4, 75.0: 2, 0.0: 0}


def test_svg_is_well_formed_once_its_attributes_are_quoted():
    svg = re.search(r"<svg.*</svg>", histogram("t", [1, 2, 3, 4.5]))
    assert svg is not None
    ET.fromstring(re.sub(r"=([^'\s>]+?)(?=[\s>]|/>)", r"='\1'", svg[0]))  # noqa: S314 - our own text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 3), (0.2, 0.9), (-3, 1e6), (500, 501), (0, 1728)])
def test_ticks_are_round_and_within(low: float, high: float):
    found = ticks(low, high)
    assert 3 <= len(found) <= 7
    assert all(low <= value <= high for value in found)


def test_the_sizes_of_the_made_up_photos_are_told(features: FeatureSet, tmp_path: Path):
    text = page_of(features, tmp_path).text
    assert f"{max(WIDTH, HEIGHT)} pixels for each of 5." in text

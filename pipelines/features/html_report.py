"""Writes a feature set as one self-contained HTML file: counts, lineage, photos, histograms, classes, rejections."""

import html
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from infra.storage.disk import replace_file
from pipelines.datasets.photo_sources import photo_uri
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import QUARANTINE
from pipelines.features.sample import SampledPhoto, in_parallel, sample_splits, sample_uniformly
from pipelines.features.speed_report import read_speed
from pipelines.features.summary import SplitSummary, megabytes, rejection_reasons, summarise
from pipelines.reports.histogram import histogram
from pipelines.reports.photo import LabelledBox, photo_html
from pipelines.reports.tables import Html, Table, page

MAX_PHOTOS = 2000
"""Most photos that the histograms count."""
PHOTOS, BOXES, WIDTH = 12, 8, 400
"""Photos shown, most boxes drawn in each, and its width in pixels."""
MIN_CONFIDENCE, MIN_BOXES = 0.1, 3
"""Boxes below this confidence are not drawn, except for the MIN_BOXES most confident ones."""
CLASSES, SOURCES = 25, 20
"""Most rows of the class table; most rejected photos listed."""
CONFIDENT = 0.5
"""Confidence of a region from which the class table counts a class as certain."""


def write_page(path: Path, features: FeatureSet) -> None:
    """Writes the report to `path`.

    Photos are read from the index's `photo_root`; for one that cannot be read the page shows the reason. Raises
    UserError if the feature set itself cannot be read.
    """
    splits, photos = summarise(features), sample_uniformly(features, MAX_PHOTOS)
    title = f"{features.dataset}: {features.index.detector.name}"
    parts = [
        *_head(features, splits),
        *_photos(features),
        *_histograms(photos, sum(split.written for split in splits)),
        *_classes(photos, features.index.detector.class_names),
        *_rejections(features),
        *_speed(features),
    ]
    replace_file(path, page(title, "\n".join(parts)).encode())


def _head(features: FeatureSet, splits: Sequence[SplitSummary]) -> Iterable[str]:
    """Yields the totals, the table of splits and the lineage."""
    written, rejected = sum(split.written for split in splits), sum(split.rejected for split in splits)
    size = sum(split.size for split in splits)
    index, detector = features.index, features.index.detector
    min_regions, max_regions = detector.region_range
    tiles = {
        "photos planned": f"{written + rejected:,}",
        "= written": f"{written:,}",
        "+ rejected": f"{rejected:,}",
        "captions": f"{sum(split.captions for split in splits):,}",
        "regions per photo": str(min_regions) if min_regions == max_regions else f"{min_regions} to {max_regions}",
        "features per region": f"{detector.feature_dim:,}",
        f"in {sum(split.shards for split in splits):,} tars": megabytes(size),
    }
    yield "<div class=tiles>"
    yield from (f"<div><b>{value}</b>{name}</div>" for name, value in tiles.items())
    yield "</div>"
    names = ("split", "written", "rejected", "captions", "shards", "size")
    rows = [
        (s.split, *(f"{n:,}" for n in (s.written, s.rejected, s.captions, s.shards)), megabytes(s.size)) for s in splits
    ]
    yield Table("", names, rows).html()
    lineage = {
        "feature set": features.pinned_uri,
        "manifest": index.manifest,
        "detector's fingerprint": index.fingerprint,
        "feature-set digest": index.feature_set,
        "detector's settings": json.dumps(dict(detector.settings), ensure_ascii=False),
        "photos from": index.photo_root,
    }
    cells = (f"<dt>{name}<dd><code>{html.escape(str(value))}</code>" for name, value in lineage.items())
    yield f"<details open><summary>Lineage</summary><dl>{''.join(cells)}</dl></details>"


def _photos(features: FeatureSet) -> Iterable[str]:
    """Yields photos with their most confident boxes and their captions."""
    photos = sample_splits(features, PHOTOS)
    names = features.index.detector.class_names
    yield f"<h2>{len(photos)} photos</h2>"
    boxed = any(len(photo.boxes_R4) for photo in photos)
    yield (
        f"<p>A random sample of every split. Each photo shows its regions of confidence {MIN_CONFIDENCE} or more, "
        f"at least {MIN_BOXES} and at most {BOXES}.</p>"
        if boxed
        else "<p class=none>A random sample of every split. This feature set has no boxes.</p>"
    )
    yield "<div class=photos>"
    yield from in_parallel(partial(_photo, features.index.photo_root, names), photos)
    yield "</div>"


def _photo(root: str, names: Mapping[int, str], photo: SampledPhoto) -> str:
    source = photo.meta["source"]
    picture = photo_html(photo_uri(root, source), _best_boxes(photo, names), WIDTH)
    captions = "".join(f"<li>{html.escape(caption)}" for caption in photo.meta["captions"])
    caption = f"<b>{html.escape(source)}</b> <span class=split>{photo.split}</span><ul>{captions}</ul>"
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _best_boxes(photo: SampledPhoto, names: Mapping[int, str]) -> list[LabelledBox]:
    """Returns the most confident boxes, best first, or the first ones if the photo has no confidences."""
    count = len(photo.boxes_R4)
    scores = np.asarray(photo.meta.get("confidences") or [np.nan] * count)
    classes = photo.meta.get("classes") or [None] * count
    labels = [
        " ".join(filter(None, (_class_name(class_, names), f"{score:.2f}" if np.isfinite(score) else "")))
        for class_, score in zip(classes, scores.tolist(), strict=True)
    ]
    best = np.argsort(-scores, kind="stable")
    order = [row for n, row in enumerate(best) if n < MIN_BOXES or not scores[row] < MIN_CONFIDENCE]
    return [(labels[row] or str(row + 1), photo.boxes_R4[row].tolist()) for row in order[:BOXES]]


def _histograms(photos: Sequence[SampledPhoto], written: int) -> Iterable[str]:
    metas = [photo.meta for photo in photos]
    sides = [(meta["width"], meta["height"]) for meta in metas if meta.get("width") and meta.get("height")]
    confidences = [meta["confidences"] for meta in metas if meta.get("confidences")]
    captions = [caption for meta in metas for caption in meta["captions"]]
    counted = "all" if len(photos) == written else f"{len(photos):,} randomly chosen photos of"
    yield f"<h2>Distributions</h2><p>Counted over {counted} {written:,} written photos.</p>"
    yield "<div class=charts>"
    yield histogram("Longest side of a photo", [max(side) for side in sides], " pixels")
    yield histogram("Size of a photo", [width * height / 1e6 for width, height in sides], " megapixels")
    yield histogram("Width / height of a photo", [width / height for width, height in sides])
    yield histogram("Confidence of every region", [score for row in confidences for score in row], span=(0, 1))
    yield histogram("Confidence of a photo's best region", [max(row) for row in confidences], span=(0, 1))
    yield histogram("Regions of a photo", [len(row) for row in confidences])
    yield histogram("Captions of a photo", [len(meta["captions"]) for meta in metas])
    yield histogram("Words of a caption", [len(caption.split()) for caption in captions])
    yield "</div>"


def _classes(photos: Sequence[SampledPhoto], names: Mapping[int, str]) -> Iterable[str]:
    """Yields the most frequent classes with their fractions of regions and of photos."""
    yield "<h2>Classes</h2>"
    regions: Counter[int] = Counter()
    present: Counter[int] = Counter()
    sure: Counter[int] = Counter()
    for meta in (photo.meta for photo in photos):
        classes, scores = meta.get("classes") or [], meta.get("confidences") or []
        regions.update(classes)
        present.update(set(classes))
        sure.update({class_ for class_, score in zip(classes, scores, strict=False) if score >= CONFIDENT})
    if not regions:
        yield "<p class=none>This feature set has no classes.</p>"
        return
    yield (
        f"<p>The {min(CLASSES, len(regions))} most frequent of {len(regions)} classes that occur. A photo counts if it "
        f"has any region of the class; it counts as certain if one has confidence {CONFIDENT} or more.</p>"
    )
    rows = [
        (
            _class_name(class_, names),
            f"{count / regions.total():.1%}",
            f"{present[class_] / len(photos):.0%}",
            f"{sure[class_] / len(photos):.0%}",
        )
        for class_, count in regions.most_common(CLASSES)
    ]
    yield Table("", ("class", "regions", "photos", "certain photos"), rows).html()


def _rejections(features: FeatureSet) -> Iterable[str]:
    yield "<h2>Rejected photos</h2>"
    if not features.rejected:
        yield "<p class=none>None.</p>"
        return
    reasons = [(reason, f"{count:,}") for reason, count in rejection_reasons(features)]
    yield Table("", ("reason", "photos"), reasons).html()
    first = [(Html(f"<code>{html.escape(row.source)}</code>"), row.reason) for row in features.rejected[:SOURCES]]
    if len(features.rejected) > SOURCES:
        yield f"<p>The first {SOURCES}; all of them are in {QUARANTINE}.</p>"
    yield Table("", ("photo", "reason"), first).html()


def _speed(features: FeatureSet) -> Iterable[str]:
    """Yields the speed of the last extraction, unless the photos were imported."""
    table = read_speed(features.store)
    if table is not None:
        yield "<h2>Speed of the last extraction</h2>"
        yield (
            "<p>For every phase: photos per second of one process while it works, the mean number of busy "
            "processes, and of parts that wait for it.</p>"
        )
        yield table.html()


def _class_name(class_: Any, names: Mapping[int, str]) -> str:
    return "" if class_ is None else names.get(class_, f"class {class_}")

"""A feature set as one HTML file that opens without a server: counts, photos with boxes, histograms, rejections."""

import html
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.datasets.photo_sources import photo_uri
from pipelines.features.feature_set import FeatureSet
from pipelines.features.sample import Record, chosen_photos, in_parallel, sample_records
from pipelines.features.summary import SplitSummary, megabytes, reasons, summarise
from pipelines.reports.histogram import histogram
from pipelines.reports.photo import LabelledBox, photo_html
from pipelines.reports.tables import Html, Table, page

MOST_RECORDS = 2000
"""Photos that the histograms count, at most."""
PHOTOS, BOXES, WIDTH = 12, 8, 400
"""Photos shown, boxes drawn in each at most, and pixels of its width."""
CLEAR, FEWEST = 0.1, 3
"""Boxes below this confidence are left out, but for the best few."""
CLASSES, SOURCES = 25, 20
"""Rows of the class table; rejected photos named."""
CONFIDENT = 0.5


def write_page(path: Path, features: FeatureSet) -> None:
    """Writes the report. Photos are read from where the feature set's index says; one that is gone leaves its name.
    UserError where the feature set itself cannot be read.
    """
    splits, records = summarise(features), sample_records(features, MOST_RECORDS)
    title = f"{features.dataset}: {features.index['detector'].get('name', 'features')}"
    parts = [
        *_head(features, splits),
        *_photos(features),
        *_histograms(records, sum(split.written for split in splits)),
        *_classes(records, _names(features)),
        *_rejections(features),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(title, "\n".join(parts)), encoding="utf-8")


def _head(features: FeatureSet, splits: Sequence[SplitSummary]) -> Iterable[str]:
    """The big numbers, the splits and the lineage."""
    written, rejected = sum(split.written for split in splits), sum(split.rejected for split in splits)
    size = sum(split.size for split in splits)
    detector = features.index["detector"]
    fewest, most = detector["regions"]
    tiles = {
        "photos planned": f"{written + rejected:,}",
        "= written": f"{written:,}",
        "+ rejected": f"{rejected:,}",
        "captions": f"{sum(split.captions for split in splits):,}",
        "regions a photo": str(fewest) if fewest == most else f"{fewest} to {most}",
        "numbers a region": f"{detector['feature_dim']:,}",
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
        "feature set": f"{features.uri}@{features.index['feature_set'][:12]}",
        "manifest": features.index["manifest"],
        "detector's fingerprint": features.index["fingerprint"],
        "feature-set digest": features.index["feature_set"],
        "detector's settings": json.dumps(detector.get("settings") or {}, ensure_ascii=False),
        "photos from": features.index["photos"],
    }
    cells = (f"<dt>{name}<dd><code>{html.escape(str(value))}</code>" for name, value in lineage.items())
    yield f"<details open><summary>Lineage</summary><dl>{''.join(cells)}</dl></details>"


def _photos(features: FeatureSet) -> Iterable[str]:
    """Photos with their most confident boxes and their captions."""
    records = chosen_photos(features, PHOTOS)
    names = _names(features)
    yield f"<h2>{len(records)} photos</h2>"
    boxed = any(len(record.boxes_R4) for record in records)
    yield (
        f"<p>Drawn by lot from every split, each with the regions of confidence {CLEAR} or more, "
        f"{FEWEST} to {BOXES} of them.</p>"
        if boxed
        else "<p class=none>Drawn by lot from every split. This feature set has no boxes.</p>"
    )
    yield "<div class=photos>"
    yield from in_parallel(partial(_photo, features.index["photos"], names), records)
    yield "</div>"


def _photo(root: str, names: dict[int, str], record: Record) -> str:
    source = record.meta["source"]
    picture = photo_html(photo_uri(root, source), _best_boxes(record, names), WIDTH)
    captions = "".join(f"<li>{html.escape(caption)}" for caption in record.meta["captions"])
    told = f"<b>{html.escape(source)}</b> <span class=split>{record.split}</span><ul>{captions}</ul>"
    return f"<figure>{picture}<figcaption>{told}</figcaption></figure>"


def _best_boxes(record: Record, names: dict[int, str]) -> list[LabelledBox]:
    """The most confident boxes, best first; where no confidence is stored the first ones, where no class none named."""
    count = len(record.boxes_R4)
    scores = np.asarray(record.meta.get("confidences") or [np.nan] * count)
    classes = record.meta.get("classes") or [None] * count
    labels = [
        " ".join(filter(None, (_class_name(class_, names), f"{score:.2f}" if np.isfinite(score) else "")))
        for class_, score in zip(classes, scores.tolist(), strict=True)
    ]
    order = [row for n, row in enumerate(np.argsort(-scores, kind="stable")) if n < FEWEST or not scores[row] < CLEAR]
    return [(labels[row] or str(row + 1), record.boxes_R4[row].tolist()) for row in order[:BOXES]]


def _histograms(records: Sequence[Record], written: int) -> Iterable[str]:
    metas = [record.meta for record in records]
    sides = [(meta["width"], meta["height"]) for meta in metas if meta.get("width") and meta.get("height")]
    confidences = [meta["confidences"] for meta in metas if meta.get("confidences")]
    captions = [caption for meta in metas for caption in meta["captions"]]
    counted = "all" if len(records) == written else f"{len(records):,} photos drawn by lot of"
    yield f"<h2>How they are spread</h2><p>Counted over {counted} {written:,} photos that were written.</p>"
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


def _classes(records: Sequence[Record], names: dict[int, str]) -> Iterable[str]:
    """The most frequent classes: how many regions have one, and in how many photos there is one."""
    yield "<h2>Classes</h2>"
    regions: Counter[int] = Counter()
    photos: Counter[int] = Counter()
    sure: Counter[int] = Counter()
    for meta in (record.meta for record in records):
        classes, scores = meta.get("classes") or [], meta.get("confidences") or []
        regions.update(classes)
        photos.update(set(classes))
        sure.update({class_ for class_, score in zip(classes, scores, strict=False) if score >= CONFIDENT})
    if not regions:
        yield "<p class=none>This feature set has no classes.</p>"
        return
    yield (
        f"<p>The {min(CLASSES, len(regions))} most frequent of {len(regions)} classes that occur. Share of photos: "
        f"with any region of the class / with one of confidence {CONFIDENT} or more (the stronger colour).</p>"
    )
    rows = [
        (
            _class_name(class_, names),
            Html(_bars(count / regions.total())),
            Html(_bars(photos[class_] / len(records), sure[class_] / len(records))),
        )
        for class_, count in regions.most_common(CLASSES)
    ]
    yield Table("", ("class", "share of regions", "share of photos"), rows).html("classes")


def _rejections(features: FeatureSet) -> Iterable[str]:
    yield "<h2>Rejected photos</h2>"
    if not features.rejected:
        yield "<p class=none>None.</p>"
        return
    yield Table("", ("reason", "photos"), [(reason, f"{count:,}") for reason, count in reasons(features)]).html()
    first = [(Html(f"<code>{html.escape(row.source)}</code>"), row.reason) for row in features.rejected[:SOURCES]]
    if len(features.rejected) > SOURCES:
        yield f"<p>The first {SOURCES}; all of them are in quarantine.parquet.</p>"
    yield Table("", ("photo", "reason"), first).html()


def _bars(share: float, dark: float | None = None) -> str:
    """One bar, or a dark one within a light one, with the shares in words."""
    inner = "" if not dark else f"<i class=dark style='width:{100 * dark:.1f}%'></i>"
    light = f"<i class={'bar' if dark is None else 'light'} style='width:{100 * share:.1f}%'></i>"
    told = f"{share:.1%}" if dark is None else f"{share:.0%} / {dark:.0%}"
    return f"<span class=bars>{light}{inner}</span><span class=share>{told}</span>"


def _names(features: FeatureSet) -> dict[int, str]:
    return {int(id_): name for id_, name in features.index["detector"]["class_names"].items()}


def _class_name(class_: Any, names: dict[int, str]) -> str:
    return "" if class_ is None else names.get(class_, f"class {class_}")

"""A search as one HTML file: the ranked photos, and in each the regions that the query's words look at."""

import html
from collections.abc import Sequence
from pathlib import Path

import torch

from pipelines.datasets.photo_sources import photo_uri
from pipelines.features.feature_set import FeatureSet, Split
from pipelines.reports.photo import photo_html
from shan_model.model import SHAN

WIDTH = 300
"""Pixels of a photo on the page."""
WORDS = 4
"""Words of a query whose regions are shown."""
STYLE = """body{font:15px sans-serif;margin:2em;max-width:1400px}figure{display:inline-block;margin:0 1em 1em 0}
figcaption{color:#555}.own img{outline:4px solid #3cb44b}h2{font-size:1.1em;margin:1.5em 0 .5em}"""


def write_page(
    path: Path,
    title: str,
    shan: SHAN,
    features: FeatureSet,
    split: Split,
    results: dict[str, Sequence[tuple[int, float]]],
) -> None:
    """Writes the page. `results` maps a query to (row of the split, score), best first; photos are read from where the
    feature set was extracted, and one that is gone leaves its name and the reason.
    """
    parts = [f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>"]
    parts.append(f"<h1>{html.escape(title)}</h1><p>A box is the region that a word looks at most; the photo ")
    parts.append("that the query was written for has a green frame.</p>")
    for query, hits in results.items():
        parts.append(f"<h2>{html.escape(query)}</h2>")
        for row, score in hits:
            meta = split.meta[row]
            own = " class=own" if query in meta["captions"] else ""
            uri = photo_uri(features.index["photos"], meta["source"])
            picture = photo_html(uri, _looks(shan, split, row, query), WIDTH)
            caption = f"{html.escape(meta['source'])} &middot; {score:.3f}"
            parts.append(f"<figure{own}>{picture}<figcaption>{caption}</figcaption></figure>")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts), encoding="utf-8")


@torch.inference_mode()
def _looks(shan: SHAN, split: Split, row: int, query: str) -> list[tuple[str, list[float]]]:
    """The words that look most sharply at one region, with that region's box; words that look at one share it."""
    regions_BRD = shan.encode_photos(torch.from_numpy(split[[row]]))
    (words_WD,) = shan.encode_captions([query])
    attention_RW = shan.alignment.word_attention(regions_BRD, words_WD)[0][:, 1:-1]  # without <start> and <end>
    words, looks = shan.text_encoder.tokens(query)[1:-1], dict[int, list[str]]()
    for w in sorted(attention_RW.amax(dim=0).argsort(descending=True)[:WORDS].tolist()):
        looks.setdefault(int(attention_RW[:, w].argmax()), []).append(words[w])
    boxes = split.boxes(row)
    if not len(boxes):  # an import without boxes
        return []
    return [(" ".join(said), boxes[region].tolist()) for region, said in looks.items()]

"""Search results as one HTML page: the ranked photos, with the regions that the words of the query attend to."""

import html
from collections.abc import Sequence
from pathlib import Path

import torch

from infra.storage.disk import replace_file
from pipelines.datasets.photo_sources import photo_uri
from pipelines.features.feature_set import FeatureSet, Split
from pipelines.reports.photo import LabelledBox, photo_html
from pipelines.reports.tables import page
from shan_model.model import SHAN

WIDTH = 300
"""Width of a photo on the page, in pixels."""
MAX_WORDS = 4
"""Words of a query whose regions are shown, at most."""


def write_search_page(
    path: Path,
    title: str,
    shan: SHAN,
    features: FeatureSet,
    split: Split,
    results: dict[str, Sequence[tuple[int, float]]],
) -> None:
    """Writes the page. `results` maps a query to its (row of the split, score), best first.

    Photos are read from where they were extracted; a photo that cannot be read is replaced by its name and the reason.
    """
    legend = "A box is the region that a word attends to most. The photo whose caption is the query has a green frame."
    parts = [f"<p>{legend}</p>"]
    for query, hits in results.items():
        figures = "".join(_figure(shan, features, split, query, row, score) for row, score in hits)
        parts.append(f"<h2>{html.escape(query)}</h2><div class=photos>{figures}</div>")
    replace_file(path, page(title, "\n".join(parts)).encode())


def _figure(shan: SHAN, features: FeatureSet, split: Split, query: str, row: int, score: float) -> str:
    source = split.sources[row]
    css_class = " class=match" if query in split.captions_of_photos[row] else ""
    picture = photo_html(photo_uri(features.index.photo_root, source), attended_boxes(shan, split, row, query), WIDTH)
    caption = f"{html.escape(source)} &middot; {score:.3f}"
    return f"<figure{css_class}>{picture}<figcaption>{caption}</figcaption></figure>"


@torch.inference_mode()
def attended_boxes(shan: SHAN, split: Split, row: int, query: str) -> list[LabelledBox]:
    """Returns the boxes of the regions to which words of the query attend most, labelled with these words.

    The MAX_WORDS words with the highest attention weights are taken. Returns nothing for a photo without boxes.
    """
    regions_BRD = shan.encode_photos(torch.from_numpy(split[[row]]))
    (words_WD,) = shan.encode_captions([query])
    attention_RW = shan.alignment.word_attention(regions_BRD, words_WD)[0][:, 1:-1]  # without <start> and <end>
    words, words_of_region = shan.text_encoder.tokens(query)[1:-1], dict[int, list[str]]()
    for w in sorted(attention_RW.amax(dim=0).argsort(descending=True)[:MAX_WORDS].tolist()):
        words_of_region.setdefault(int(attention_RW[:, w].argmax()), []).append(words[w])
    boxes_R4 = split.boxes(row)
    if not len(boxes_R4):  # a feature set that was imported without boxes
        return []
    return [(" ".join(attending), boxes_R4[region].tolist()) for region, attending in words_of_region.items()]

"""Search results as one HTML page: the ranked photos, with the regions that the words of the query attend to."""

import html
from collections.abc import Sequence
from pathlib import Path

from infra.storage.disk import replace_file
from pipelines.reports.photo import LabelledBox, photo_html
from pipelines.reports.tables import page
from pipelines.search.hits import Explanation, Hit

WIDTH = 300
"""Width of a photo on the page, in pixels."""
MAX_WORDS = 4
"""Words of a query whose regions are shown, at most."""


def write_search_page(
    path: Path,
    title: str,
    queries: Sequence[str],
    results: Sequence[Sequence[Hit]],
    explanations: Sequence[Sequence[Explanation]],
) -> None:
    """Writes the page of the photos that each query found, best first.

    Photos are read from where they were extracted; a photo that cannot be read is replaced by its name and the reason.
    """
    legend = "A box is the region that a word attends to most. The photo whose caption is the query has a green frame."
    parts = [f"<p>{legend}</p>"]
    for query, hits, explained in zip(queries, results, explanations, strict=True):
        figures = "".join(_figure(hit, explanation) for hit, explanation in zip(hits, explained, strict=True))
        parts.append(f"<h2>{html.escape(query)}</h2>{_unknown_words(explained)}<div class=photos>{figures}</div>")
    replace_file(path, page(title, "\n".join(parts)).encode())


def _unknown_words(explained: Sequence[Explanation]) -> str:
    """Returns a paragraph that lists the words of a query that the model does not know; empty without any."""
    words = dict.fromkeys(word.word for explanation in explained[:1] for word in explanation.words if not word.known)
    return f"<p>Not in the model's vocabulary: {html.escape(', '.join(words))}.</p>" if words else ""


def _figure(hit: Hit, explanation: Explanation) -> str:
    css_class = " class=match" if hit.is_match else ""
    picture = photo_html(hit.photo, attended_boxes(explanation), WIDTH)
    caption = f"{html.escape(hit.source)} &middot; {hit.score:.3f}"
    return f"<figure{css_class}>{picture}<figcaption>{caption}</figcaption></figure>"


def attended_boxes(explanation: Explanation) -> list[LabelledBox]:
    """Returns the boxes of the regions to which words of the query attend most, labelled with these words.

    The MAX_WORDS words with the highest attention weights are taken. Returns nothing for a photo without boxes.
    """
    strongest = sorted(enumerate(explanation.words), key=lambda found: -found[1].weight)[:MAX_WORDS]
    labels, boxes = dict[int, list[str]](), dict[int, tuple[float, ...]]()
    for _, word in sorted(strongest, key=lambda found: found[0]):
        if word.box is not None:
            labels.setdefault(word.region, []).append(word.word)
            boxes[word.region] = word.box
    return [(" ".join(words), boxes[region]) for region, words in labels.items()]

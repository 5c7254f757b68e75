"""Ranks the photos of a feature set for text queries with a model.

python -m jobs.search --model models:/shan-flickr30k@champion --features URI "a dog runs on the beach"
"""

from collections.abc import Sequence
from typing import Any

from infra.errors import UserError
from infra.storage.open import require_writable_file
from jobs import cli, options
from pipelines.features.feature_set import FeatureSet
from pipelines.models.device import choose_device
from pipelines.models.load import load_matchers
from pipelines.serving.search import search, search_listing
from pipelines.serving.search_page import write_search_page


def _arguments(parser: Any) -> None:
    parser.add_argument("queries", type=str, nargs="+", metavar="QUERY", help="Text queries.")
    options.add(parser, "--model", required=True)
    options.add(parser, "--features", required=True)
    options.add(parser, "--device")
    options.add(parser, "--split")
    options.add(parser, "--page")
    parser.add_argument("--top", type=int, default=5, help="Number of photos per query.")


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "search", "Rank the photos of a feature set for text queries.", _arguments, ("tracking",)
    )
    if arguments.top < 1:
        raise UserError(f"--top is {arguments.top}; it must be at least 1")
    if arguments.page is not None:
        require_writable_file(arguments.page, "--page")
    device = choose_device(arguments.device)
    features = FeatureSet.open(arguments.features)
    split = features.split(arguments.split)
    (shan,) = load_matchers([(arguments.model, features)], config.tracking, device)
    results = search(shan, split, arguments.queries, arguments.top)
    print(search_listing(arguments.queries, results))
    if arguments.page is not None:
        hits: dict[str, Sequence[tuple[int, float]]] = {
            q: [(hit.row, hit.score) for hit in found] for q, found in zip(arguments.queries, results, strict=True)
        }
        write_search_page(arguments.page, arguments.model, shan, features, split, hits)


if __name__ == "__main__":
    cli.run(main)

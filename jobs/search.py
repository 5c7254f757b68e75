"""Ranks photos for text queries, or captions for photos, over a search index or a feature set.

python -m jobs.search --index s3://bucket/indexes/flickr30k-0123456789ab "a dog runs on the beach"
python -m jobs.search --index s3://bucket/indexes/flickr30k-0123456789ab --image photo.jpg
python -m jobs.search --model models:/shan-flickr30k@champion --features URI "a dog runs on the beach"
"""

import json
from typing import Any

from infra.errors import UserError
from infra.storage.open import require_writable_file
from jobs import cli, options
from pipelines.models.device import choose_device
from pipelines.search.config import CANDIDATES
from pipelines.search.hits import listing, results_document
from pipelines.search.query import OpenSearch, open_features, open_index
from pipelines.search.search_page import write_search_page


def _arguments(parser: Any) -> None:
    parser.add_argument("queries", type=str, nargs="*", default=None, metavar="QUERY", help="Text queries.")
    options.add(parser, "--index")
    options.add(parser, "--features", "It is searched without an index.")
    options.add(parser, "--model", "Default: the one that the index records.")
    parser.add_argument("--image", type=str, nargs="+", help="Photos to find captions for, instead of text queries.")
    options.add(parser, "--device")
    options.add(parser, "--split", "Default: test for a feature set, all splits for an index.", default=None)
    candidates = f"Number of items of an index that are scored exactly for each query (default: {CANDIDATES})."
    parser.add_argument("--candidates", type=int, help=candidates)
    parser.add_argument("--top", type=int, default=5, help="Number of results per query.")
    parser.add_argument(
        "--explain", action="store_true", help="Print the level scores, and the best region for each word."
    )
    options.add(parser, "--json")
    options.add(parser, "--page")


def _check(arguments: Any) -> None:
    """Raises UserError for options that do not fit together."""
    if arguments.top < 1:
        raise UserError(f"--top is {arguments.top}; it must be at least 1")
    if (arguments.index is None) == (arguments.features is None):
        raise UserError("give exactly one of --index and --features")
    if bool(arguments.queries) == bool(arguments.image):
        raise UserError("give either text queries or --image")
    if arguments.features is not None and arguments.model is None:
        raise UserError("--features needs --model, the model that ranks; an index records its model")
    if arguments.features is not None and arguments.candidates is not None:
        raise UserError("--candidates has no effect with --features, whose photos are all scored; omit it")
    if arguments.candidates is not None and arguments.candidates < 1:
        raise UserError(f"--candidates is {arguments.candidates}; it must be at least 1")
    if arguments.image and (arguments.explain or arguments.page):
        option = "--explain" if arguments.explain else "--page"
        raise UserError(f"{option} has no effect with --image; omit it")
    if arguments.page is not None:
        require_writable_file(arguments.page, "--page")


def _open(arguments: Any, tracking: Any) -> OpenSearch:
    device = choose_device(arguments.device)
    if arguments.index is None:
        return open_features(arguments.features, arguments.model, tracking, device, arguments.split or "test")
    candidates = arguments.candidates or CANDIDATES
    return open_index(arguments.index, arguments.model, tracking, device, candidates, arguments.split)


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "search", "Rank photos for text queries, or captions for photos.", _arguments, ("tracking",)
    )
    _check(arguments)
    search = _open(arguments, config.tracking)
    queries = arguments.image or arguments.queries
    results = (search.search_captions if arguments.image else search.search_photos)(queries, arguments.top)
    explanations = search.explain(queries, results) if arguments.explain or arguments.page is not None else None
    shown = explanations if arguments.explain else None
    if arguments.json:
        print(json.dumps(results_document(queries, results, shown), ensure_ascii=False, indent=2))
    else:
        print(listing(queries, results, bool(arguments.image), shown))
    if arguments.page is not None and explanations is not None:
        write_search_page(arguments.page, search.model.uri, queries, results, explanations)


if __name__ == "__main__":
    cli.run(main)

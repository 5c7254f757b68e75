"""Serves a search index over HTTP with Ray Serve, and follows the champion.

python -m jobs.serve --index s3://bucket/indexes/flickr30k-0123456789ab
python -m jobs.serve --index s3://bucket/indexes/flickr30k-0123456789ab --pin 7 --service.port 8080
"""

from typing import Any

from infra.signals import when_interrupted
from jobs import cli, options
from pipelines.service.run import serve_forever


def _arguments(parser: Any) -> None:
    options.add(parser, "--index", required=True)
    parser.add_argument(
        "--pin", type=int, metavar="VERSION", help="Serve the index of this version instead of the champion's."
    )


def main() -> None:
    """Runs the command line."""
    arguments, config = cli.parse(
        "serve", "Serve a search index over HTTP.", _arguments, ("service", "tracking", "cluster")
    )
    with when_interrupted("the service has stopped"):
        serve_forever(arguments.index, arguments.pin, config.service, config.tracking, config.cluster)


if __name__ == "__main__":
    cli.run(main)

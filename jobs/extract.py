"""Photos to a feature set: detector regions in webdataset shards, exactly once.

python -m jobs.extract --dataset dataset_flickr30k.json --photos flickr30k-images --extract.output /data/features
"""

from pathlib import Path
from typing import Any

from tqdm import tqdm

from jobs import cli
from jobs.config import Config
from pipelines.extract import Extraction, extract
from pipelines.karpathy import import_karpathy
from pipelines.manifest import Manifest


def run_extraction(manifest: Manifest, config: Config) -> Extraction:
    """Extracts what is missing of a manifest's feature set, with a bar in photos."""
    with tqdm(total=manifest.table.num_rows, desc="extract", unit="photo") as bar:
        return extract(manifest, config.extract, config.cluster, bar.update)


def report(extraction: Extraction) -> str:
    """What was done, in a few lines."""
    features = extraction.feature_set
    written = sum(row["count"] for row in features.index["shards"])
    shards = f"{extraction.shards_written} written now, {extraction.shards_reused} reused"
    lines = [
        features.uri,
        f"  {written} photos in {len(features.receipts)} shards ({shards}), {len(features.rejected)} photos rejected",
    ]
    lines += [f"  rejected {row.source}: {row.reason}" for row in features.rejected[:10]]
    if len(features.rejected) > 10:
        lines.append(f"  ... and {len(features.rejected) - 10} more, in the receipts")
    return "\n".join(lines)


def _arguments(parser: Any) -> None:
    parser.add_argument("--dataset", type=Path, required=True, help="data set in the Karpathy JSON layout")
    parser.add_argument("--photos", type=Path, required=True, help="folder of its photos")


def main() -> None:
    """Command line."""
    arguments, config = cli.parse("extract", "Photos to a feature set.", _arguments, ("extract", "cluster"))
    print(report(run_extraction(import_karpathy(arguments.dataset, arguments.photos), config)))


if __name__ == "__main__":
    cli.run(main)

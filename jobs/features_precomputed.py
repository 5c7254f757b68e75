"""`python -m jobs.features import` and `export`: features that others extracted, and ours for code of others."""

from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from infra.errors import UserError
from jobs.config import Config
from pipelines.features.feature_set import FeatureSet
from pipelines.features.precomputed.export import Exported, export_scan
from pipelines.features.precomputed.scan import import_scan
from pipelines.features.precomputed.shard_import import Imported
from pipelines.features.precomputed.tsv import import_tsv
from pipelines.features.text_report import written_text


def add_import_arguments(parser: Any) -> None:
    """`--format`, PATH, URI and `--dataset`. The job's config section is `extract`, for `photos_per_shard`."""
    parser.add_argument("path", type=Path, metavar="PATH", help="SCAN folder, or TSV file or folder of them")
    parser.add_argument("uri", type=str, metavar="URI", help="root below which the feature set is written")
    parser.add_argument("--format", type=Literal["scan", "tsv"], required=True, help="what PATH holds")
    parser.add_argument(
        "--dataset", type=str | None, default=None, help="tsv: Karpathy JSON of splits and captions; scan: a name"
    )


def run_import(arguments: Any, config: Config) -> None:
    """Imports what is missing of the feature set, with a bar in photos, and prints what was done."""
    per_shard = config.extract.photos_per_shard
    if arguments.format == "tsv" and not arguments.dataset:
        raise UserError("--dataset is not given; a TSV has neither splits nor captions, so pass the Karpathy JSON")
    with tqdm(desc="import", unit="photo") as bar:
        if arguments.format == "tsv":
            dataset = Path(arguments.dataset)
            imported = import_tsv(arguments.path, dataset, arguments.uri, per_shard, bar.update)
        else:
            imported = import_scan(arguments.path, arguments.uri, arguments.dataset, per_shard, bar.update)
    print(report(imported))


def report(imported: Imported) -> str:
    """What was done, in a few lines."""
    done = f"({imported.shards_written} written now, {imported.shards_reused} reused)"
    return "\n".join([written_text(imported.feature_set, done), *(f"  {note}" for note in imported.notes)])


def add_export_arguments(parser: Any) -> None:
    """URI and PATH."""
    parser.add_argument("uri", type=str, metavar="URI", help="a feature set")
    parser.add_argument("path", type=Path, metavar="PATH", help="folder to write SCAN's layout to")


def run_export(arguments: Any) -> None:
    """Exports a feature set, with a bar in photos, and prints what was done."""
    features = FeatureSet.open(arguments.uri)
    with tqdm(total=sum(len(r.written) for r in features.receipts), desc="export", unit="photo") as bar:
        exported = export_scan(features, arguments.path, bar.update)
    print(_report_export(arguments.path, exported))


def _report_export(folder: Path, exported: Exported) -> str:
    photos = ", ".join(f"{count} {split}" for split, count in exported.photos.items())
    return "\n".join([f"{folder}: {photos} photos in SCAN's layout", *(f"  {note}" for note in exported.notes)])

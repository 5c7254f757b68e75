"""Photos to a feature set: detector regions in webdataset shards, exactly once.

python -m jobs.extract --dataset dataset_flickr30k.json --photos flickr30k-images --extract.output s3://bucket/features
python -m jobs.extract ... --plan --estimate.nodes 8 --estimate.cpus_per_node 16 --estimate.dollars_per_node_hour 0.8
"""

import json
import time
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from jobs import cli
from jobs.config import Config
from jobs.extract_tables import ESTIMATE, plan_table, real_table
from jobs.features_report import written_text
from pipelines.dataset import import_dataset
from pipelines.estimate import Estimate, at_hand, choose_photos, estimate, measure
from pipelines.extract import Extraction, extract, prepare, start
from pipelines.manifest import Manifest
from pipelines.shards import canonical_json


def run_extraction(manifest: Manifest, config: Config) -> Extraction:
    """Extracts what is missing of a manifest's feature set, with a bar in photos."""
    with tqdm(total=manifest.table.num_rows, desc="extract", unit="photo") as bar:
        return extract(manifest, config.extract, config.cluster, bar.update)


def report(extraction: Extraction) -> str:
    """What was done, in a few lines."""
    done = f"{len(extraction.written)} written now, {extraction.shards_reused} reused"
    return written_text(extraction.feature_set, f"({done}); {extraction.photos_detected} detected now")


def run_plan(manifest: Manifest, config: Config) -> str:
    """Measures a probe, keeps the estimate beside the shards to come, and tells it."""
    since = time.perf_counter()
    prepared = prepare(manifest, config.extract, config.cluster)
    photos = choose_photos(prepared.plan)
    head = f"{prepared.store.uri}\n  {prepared.plan.photo_count} photos, {len(prepared.plan.receipts)} shards are there"
    if not photos:
        return f"{head}; {len(prepared.plan.missing)} to write, none needs the detector"
    start(config.extract, config.cluster, prepared.spec)
    measured = measure(photos, manifest.root, prepared.spec, config.extract, since)
    cluster = at_hand(config.estimate, config.cluster.is_local)
    answer = estimate(measured, prepared.plan, config.extract, cluster)
    prepared.store.replace(ESTIMATE, canonical_json(asdict(answer)))
    return f"{head}, {answer.shards} to write\n{plan_table(measured, cluster, answer)}"


def planned_against_real(extraction: Extraction, seconds: float) -> str:
    """The estimate that `--plan` left against what was done; empty if there is none or nothing was to do."""
    store = extraction.feature_set.store
    try:
        planned = Estimate(**json.loads(store.read(ESTIMATE)))
    except FileNotFoundError:
        return ""
    store.delete(ESTIMATE)  # it was for this run; the next needs one of its own
    if not extraction.written:
        return ""
    real = (len(extraction.written), extraction.photos_detected, sum(r.size for r in extraction.written), seconds)
    return real_table(planned, real)


def _arguments(parser: Any) -> None:
    parser.add_argument(
        "--dataset",
        type=str,
        required=True,
        help="Karpathy JSON, or a .csv, .jsonl, .parquet of URIs; path or URI itself",
    )
    parser.add_argument("--photos", type=str, default=".", help="folder, s3:// prefix or .tar of relative photo paths")
    parser.add_argument(
        "--plan", action="store_true", help="measure a short probe, print shards, bytes, hours, cost; stop"
    )


def main() -> None:
    """Command line."""
    sections = ("extract", "estimate", "cluster")
    arguments, config = cli.parse("extract", "Photos to a feature set.", _arguments, sections)
    manifest = import_dataset(arguments.dataset, arguments.photos)
    if arguments.plan:
        print(run_plan(manifest, config))
        return
    start = time.perf_counter()
    extraction = run_extraction(manifest, config)
    print(report(extraction))
    print(planned_against_real(extraction, time.perf_counter() - start), end="")


if __name__ == "__main__":
    cli.run(main)

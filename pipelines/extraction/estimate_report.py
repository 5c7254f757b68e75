"""The estimate of an extraction, and its comparison with the finished job, as tables of text."""

import time
from dataclasses import asdict

from infra.canonical_json import canonical_json, load_object
from infra.cluster import ClusterConfig
from pipelines.datasets.manifest import Manifest
from pipelines.extraction.config import ExtractConfig
from pipelines.extraction.estimate import (
    Estimate,
    Probe,
    choose_probe_photos,
    estimate,
    resolve_cluster,
    run_probe,
)
from pipelines.extraction.estimate_config import EstimateConfig
from pipelines.extraction.run import Extraction, plan_extraction, start_detectors
from pipelines.features.layout import ESTIMATE
from pipelines.reports.tables import Table


def estimate_table(measured: Probe, cluster: EstimateConfig, result: Estimate) -> str:
    """Returns the measurements of the probe and the estimate for the cluster."""
    milliseconds = [f"{1000 * s:.0f} ms" for s in (measured.fetch_s, measured.detect_s, measured.commit_s)]
    cost = f"{result.dollars:.2f} dollars" if cluster.dollars_per_node_hour else "no price given"
    row = (f"{result.shards}", f"{result.photos}", f"{result.bytes / 1e9:.3g}", f"{result.seconds / 3600:.3g}", cost)
    return "\n".join(
        [
            f"  probe of {measured.photos} photos, one process: fetch and decode {milliseconds[0]}, detect "
            f"{milliseconds[1]}, commit {milliseconds[2]} per photo; start-up {measured.start_s:.0f} s",
            f"  cluster: {cluster.num_nodes} x ({cluster.cpus_per_node:g} cores, {cluster.gpus_per_node:g} GPUs), "
            f"{result.detectors} detector processes; {result.photos_per_s:.1f} photos/s limited by {result.bottleneck}",
            "",
            Table("", ("shards", "photos to detect", "GB", "hours", "cost"), [row]).markdown(),
        ]
    )


def comparison_table(planned: Estimate, real: tuple[int, int, int, float]) -> str:
    """Returns planned and measured values side by side. `real`: shards, photos detected, bytes, seconds."""
    values = [
        ("shards written", planned.shards, real[0], "d"),
        ("photos detected", planned.photos, real[1], "d"),
        ("GB", planned.bytes / 1e9, real[2] / 1e9, ".3g"),
        ("hours", planned.seconds / 3600, real[3] / 3600, ".3g"),
    ]
    rows = [
        (name, f"{before:{form}}", f"{after:{form}}", f"{after / before:.2f}" if before else "")
        for name, before, after, form in values
    ]
    return f"\n{Table('', ('', 'planned', 'real', 'real / planned'), rows).markdown()}\n"


def estimate_extraction(
    manifest: Manifest, config: ExtractConfig, sizing: EstimateConfig, cluster: ClusterConfig, *, keep: bool
) -> str:
    """Runs a probe and returns the estimate as text.

    With `keep`, it is stored in the folder of the feature set for `compare_with_estimate`. Nothing else is written.
    """
    started = time.perf_counter()
    plan = plan_extraction(manifest, config, cluster)
    work = plan.feature_set
    photos = choose_probe_photos(work)
    head = f"{plan.store.uri}\n  {work.photo_count} photos, {len(work.complete)} shards are complete"
    if not photos:
        return f"{head}; {len(work.missing)} to write, without detection"
    start_detectors(config, cluster, plan.spec, 1)
    measured = run_probe(photos, manifest.root, plan.spec, config, started)
    sizing = resolve_cluster(sizing, cluster.is_local)
    result = estimate(measured, work, config, sizing)
    if keep:
        plan.store.replace(ESTIMATE, canonical_json(asdict(result)))
    return f"{head}, {result.shards} to write\n{estimate_table(measured, sizing, result)}"


def compare_with_estimate(extraction: Extraction, seconds: float) -> str:
    """Returns the comparison of an extraction of `seconds` with the stored estimate, which it deletes.

    Empty if there is no readable estimate, or if nothing was written.
    """
    store = extraction.feature_set.store
    try:
        planned = Estimate(**load_object(store.read(ESTIMATE)))
    except (FileNotFoundError, ValueError, TypeError):
        return ""
    store.delete(ESTIMATE)  # it was made for this run
    if not extraction.written:
        return ""
    real = (
        len(extraction.written),
        extraction.photos_detected,
        sum(account.shard.size for account in extraction.written),
        seconds,
    )
    return comparison_table(planned, real)

"""An extraction's estimate, and the finished job held against it, as tables."""

import json
import time
from dataclasses import asdict

from infra.cluster import ClusterConfig
from pipelines.datasets.manifest import Manifest
from pipelines.extraction.config import ExtractConfig
from pipelines.extraction.estimate import Estimate, EstimateConfig, Probe, at_hand, choose_photos, estimate, measure
from pipelines.extraction.run import Extraction, prepare, start
from pipelines.features.shards import canonical_json

ESTIMATE = "estimate.json"
"""Object beside the shards in which `--plan` leaves its estimate for the job that follows."""


def plan_table(measured: Probe, cluster: EstimateConfig, answer: Estimate) -> str:
    """What the probe measured and what follows for the cluster."""
    milliseconds = [f"{1000 * s:.0f} ms" for s in (measured.fetch_s, measured.detect_s, measured.commit_s)]
    cost = f"{answer.dollars:.2f} dollars" if cluster.dollars_per_node_hour else "no price given"
    return "\n".join(
        [
            f"  probe of {measured.photos} photos, one process: fetch and decode {milliseconds[0]}, detect "
            f"{milliseconds[1]}, commit {milliseconds[2]} a photo; {measured.start_s:.0f} s to start",
            f"  cluster: {cluster.num_nodes} x ({cluster.cpus_per_node:g} cores, {cluster.gpus_per_node:g} GPUs), "
            f"{answer.detectors} detector processes; {answer.bound} bound it at {answer.photos_per_s:.1f} photos/s",
            "",
            "| shards | photos to detect | GB | hours | cost |",
            "|---|---|---|---|---|",
            f"| {answer.shards} | {answer.photos} | {answer.bytes / 1e9:.3g} | {answer.seconds / 3600:.3g} | {cost} |",
        ]
    )


def real_table(planned: Estimate, real: tuple[int, int, int, float]) -> str:
    """Planned against real: shards, photos detected, bytes, seconds."""
    rows = [
        ("shards written", planned.shards, real[0], "d"),
        ("photos detected", planned.photos, real[1], "d"),
        ("GB", planned.bytes / 1e9, real[2] / 1e9, ".3g"),
        ("hours", planned.seconds / 3600, real[3] / 3600, ".3g"),
    ]
    lines = ["", "| | planned | real | real / planned |", "|---|---|---|---|"]
    for name, before, after, form in rows:
        ratio = f"{after / before:.2f}" if before else ""
        lines.append(f"| {name} | {before:{form}} | {after:{form}} | {ratio} |")
    return "\n".join(lines) + "\n"


def run_plan(manifest: Manifest, config: ExtractConfig, sizing: EstimateConfig, cluster: ClusterConfig) -> str:
    """Measures a probe, keeps the estimate beside the shards to come, and tells it."""
    since = time.perf_counter()
    prepared = prepare(manifest, config, cluster)
    photos = choose_photos(prepared.plan)
    head = f"{prepared.store.uri}\n  {prepared.plan.photo_count} photos, {len(prepared.plan.receipts)} shards are there"
    if not photos:
        return f"{head}; {len(prepared.plan.missing)} to write, none needs the detector"
    start(config, cluster, prepared.spec)
    measured = measure(photos, manifest.root, prepared.spec, config, since)
    sizing = at_hand(sizing, cluster.is_local)
    answer = estimate(measured, prepared.plan, config, sizing)
    prepared.store.replace(ESTIMATE, canonical_json(asdict(answer)))
    return f"{head}, {answer.shards} to write\n{plan_table(measured, sizing, answer)}"


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

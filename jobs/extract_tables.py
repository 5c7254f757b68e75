"""An extraction's estimate, and the finished job held against it, as tables."""

from pipelines.estimate import Estimate, EstimateConfig, Probe

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
            f"  cluster: {cluster.nodes} x ({cluster.cpus_per_node:g} cores, {cluster.gpus_per_node:g} GPUs), "
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

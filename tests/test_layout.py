"""Tests mirror the packages: `pipelines/features/index.py` is tested by `tests/pipelines/features/test_index.py`.

COVERED_BY lists the modules that another file's tests cover.
"""

from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGES = ("infra", "jobs", "pipelines", "shan_model")
COVERED_BY = {
    "infra/canonical_json.py": "pipelines/features/test_index.py",
    "infra/environment.py": "infra/test_platforms.py",
    "infra/registry.py": "pipelines/evaluation/test_promote.py",
    "infra/source_tree.py": "infra/test_platforms.py",
    "infra/storage/pieces.py": "infra/storage/test_base.py",
    "infra/storage/folder.py": "infra/storage/test_base.py",
    "jobs/config.py": "jobs/test_cli.py",
    "jobs/extract.py": "e2e/test_extract_s3.py",
    "jobs/lineage.py": "pipelines/lineage/test_trace.py",
    "jobs/main.py": "jobs/test_options.py",
    "jobs/promote.py": "pipelines/evaluation/test_promote.py",
    "jobs/quickstart.py": "e2e/test_quickstart.py",
    "jobs/search.py": "e2e/test_quickstart.py",
    "jobs/status.py": "pipelines/test_status.py",
    "jobs/submit.py": "cluster/test_submit.py",
    "jobs/sweep.py": "faults/test_sweep_faults.py",
    "jobs/train.py": "e2e/test_train_options.py",
    "jobs/rerank.py": "e2e/test_quickstart.py",
    "pipelines/datasets/json_document.py": "pipelines/datasets/test_karpathy.py",
    "pipelines/datasets/ranged_file.py": "pipelines/datasets/test_parquet_images.py",
    "pipelines/datasets/text_lines.py": "pipelines/datasets/test_table.py",
    "pipelines/datasets/scenes/backgrounds.py": "pipelines/datasets/scenes/test_render.py",
    "pipelines/datasets/scenes/frames.py": "pipelines/datasets/scenes/test_captions.py",
    "pipelines/datasets/scenes/lexicon.py": "pipelines/datasets/scenes/test_captions.py",
    "pipelines/datasets/scenes/shapes.py": "pipelines/datasets/scenes/test_render.py",
    "pipelines/detectors/stored_arrays.py": "pipelines/models/test_detection.py",
    "pipelines/detectors/bottom_up/layout.py": "pipelines/detectors/bottom_up/test_checkpoint.py",
    "pipelines/evaluation/comparison.py": "pipelines/evaluation/test_promote.py",
    "pipelines/datasets/manifest_checks.py": "pipelines/datasets/test_manifest.py",
    "pipelines/extraction/config.py": "pipelines/extraction/test_estimate.py",
    "pipelines/extraction/estimate_report.py": "e2e/test_extract_s3.py",
    "pipelines/extraction/hash_photos.py": "pipelines/extraction/test_reconcile.py",
    "pipelines/extraction/cut.py": "pipelines/extraction/test_parts.py",
    "pipelines/extraction/history.py": "pipelines/extraction/test_reconcile.py",
    "pipelines/extraction/join.py": "pipelines/extraction/test_parts.py",
    "pipelines/extraction/ledger.py": "pipelines/extraction/test_run.py",
    "pipelines/extraction/records.py": "pipelines/extraction/test_reconcile.py",
    "pipelines/extraction/ray_graph.py": "pipelines/extraction/test_run.py",
    "pipelines/extraction/worker_errors.py": "pipelines/extraction/test_run.py",
    "pipelines/features/account.py": "pipelines/features/test_publish.py",
    "pipelines/features/card.py": "pipelines/features/test_publish.py",
    "pipelines/features/commands.py": "jobs/test_features.py",
    "pipelines/features/precomputed/exported_files.py": "pipelines/features/precomputed/test_export_scan.py",
    "pipelines/features/planned_photos.py": "pipelines/features/test_verify.py",
    "pipelines/features/precomputed/float16.py": "pipelines/features/precomputed/test_scan.py",
    "pipelines/features/precomputed/npy_rows.py": "pipelines/features/precomputed/test_scan.py",
    "pipelines/features/precomputed/scan_text.py": "pipelines/features/precomputed/test_scan.py",
    "pipelines/features/precomputed/shard_import.py": "pipelines/features/precomputed/test_scan.py",
    "pipelines/features/precomputed/source_files.py": "pipelines/features/precomputed/test_scan.py",
    "pipelines/features/precomputed/tsv_lines.py": "pipelines/features/precomputed/test_tsv.py",
    "pipelines/features/precomputed/tsv_match.py": "pipelines/features/precomputed/test_tsv.py",
    "pipelines/features/precomputed/tsv_row.py": "pipelines/features/precomputed/test_tsv.py",
    "pipelines/features/receipt.py": "pipelines/features/test_shards.py",
    "pipelines/features/rehashed.py": "pipelines/extraction/test_reconcile.py",
    "pipelines/features/sample.py": "pipelines/features/test_html_report.py",
    "pipelines/features/speed_report.py": "pipelines/features/test_html_report.py",
    "pipelines/features/stored_receipts.py": "pipelines/features/test_stored_feature_set.py",
    "pipelines/features/shard_reader.py": "pipelines/features/test_shards.py",
    "pipelines/features/summary.py": "pipelines/features/test_html_report.py",
    "pipelines/features/text_report.py": "jobs/test_features.py",
    "pipelines/features/verify_sample.py": "pipelines/features/test_verify.py",
    "pipelines/features/verify_shard.py": "pipelines/features/test_verify.py",
    "pipelines/lineage/registered.py": "pipelines/lineage/test_trace.py",
    "pipelines/lineage/report.py": "pipelines/lineage/test_trace.py",
    "pipelines/models/trained_on.py": "pipelines/evaluation/test_promote.py",
    "pipelines/models/artifacts.py": "pipelines/models/test_package.py",
    "pipelines/models/config.py": "pipelines/models/test_detector_package.py",
    "pipelines/models/pyfunc.py": "pipelines/models/test_package.py",
    "pipelines/models/signature.py": "pipelines/models/test_package.py",
    "pipelines/models/tasks.py": "pipelines/models/test_matcher.py",
    "pipelines/pipeline/plan.py": "e2e/test_quickstart.py",
    "pipelines/pipeline/run.py": "e2e/test_quickstart.py",
    "pipelines/pipeline/setup.py": "e2e/test_quickstart.py",
    "jobs/pipeline.py": "e2e/test_quickstart.py",
    "pipelines/quickstart.py": "e2e/test_quickstart.py",
    "pipelines/training/driver.py": "pipelines/training/test_train.py",
    "pipelines/training/sweeps/config.py": "pipelines/training/sweeps/test_sweep.py",
    "pipelines/training/sweeps/trial.py": "pipelines/training/sweeps/test_tuning.py",
    "shan_model/attention.py": "shan_model/test_alignment.py",
    "shan_model/baselines/scan.py": "shan_model/test_baselines.py",
    "shan_model/baselines/vsepp.py": "shan_model/test_baselines.py",
    "shan_model/gate_fuse_pool.py": "shan_model/test_compiled_gate.py",
}
"""Modules without a test file of their own, and the file below tests/ that covers each."""


def own_test(module: Path) -> Path:
    """Returns the path of the test file that mirrors a module, below tests/."""
    return module.with_name(f"test_{module.name}")


def without_own_test() -> set[str]:
    """Returns the modules, other than `__init__.py`, that have no test file of their own."""
    found = (path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    modules = (module for module in found if module.name != "__init__.py")
    return {module.as_posix() for module in modules if not (ROOT / "tests" / own_test(module)).is_file()}


def test_modules_without_a_test_file_are_listed():
    assert without_own_test() == set(COVERED_BY)


@pytest.mark.parametrize("covering", sorted(set(COVERED_BY.values())))
def test_covering_test_files_exist(covering):
    assert (ROOT / "tests" / covering).is_file()

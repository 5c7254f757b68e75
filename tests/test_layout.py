"""Tests mirror the packages: `pipelines/features/index.py` is tested by `tests/pipelines/features/test_index.py`.

COVERS lists the modules without a test file of their own below the file that covers them. That file imports the module,
or a module that imports it, or names it (commands run as `jobs.<command>`, some code in other processes).
"""

import re
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.test_imports import MODULES, imported_modules, imports

PACKAGES = ("infra", "jobs", "pipelines", "shan_model")
COVERS = {
    "cluster/test_submit.py": ["jobs/submit.py"],
    "e2e/test_extract_s3.py": ["jobs/extract.py", "pipelines/extraction/estimate_report.py"],
    "e2e/test_quickstart.py": [
        "jobs/pipeline.py",
        "jobs/quickstart.py",
        "jobs/rerank.py",
        "pipelines/pipeline/plan.py",
        "pipelines/pipeline/run.py",
        "pipelines/pipeline/setup.py",
        "pipelines/quickstart.py",
    ],
    "e2e/test_train_options.py": ["jobs/train.py"],
    "faults/test_sweep_faults.py": ["jobs/sweep.py"],
    "infra/storage/test_base.py": ["infra/storage/folder.py"],
    "jobs/test_features.py": ["pipelines/features/commands.py", "pipelines/features/text_report.py"],
    "jobs/test_index.py": ["pipelines/search/config.py", "pipelines/search/index_commands.py"],
    "jobs/test_search.py": ["pipelines/search/query.py"],
    "pipelines/datasets/scenes/test_captions.py": [
        "pipelines/datasets/scenes/frames.py",
        "pipelines/datasets/scenes/lexicon.py",
    ],
    "pipelines/datasets/scenes/test_render.py": [
        "pipelines/datasets/scenes/backgrounds.py",
        "pipelines/datasets/scenes/shapes.py",
    ],
    "pipelines/detectors/bottom_up/test_checkpoint.py": ["pipelines/detectors/bottom_up/checkpoint_keys.py"],
    "pipelines/evaluation/test_promote.py": [
        "infra/registry.py",
        "jobs/promote.py",
        "pipelines/evaluation/comparison.py",
        "pipelines/evaluation/evaluated_version.py",
        "pipelines/models/trained_on.py",
    ],
    "pipelines/extraction/test_estimate.py": ["pipelines/extraction/config.py"],
    "pipelines/extraction/test_join.py": ["pipelines/extraction/cut.py"],
    "pipelines/extraction/test_reconcile.py": [
        "pipelines/extraction/hash_photos.py",
        "pipelines/extraction/history.py",
        "pipelines/extraction/receipt_entries.py",
    ],
    "pipelines/extraction/test_run.py": ["pipelines/extraction/ledger.py", "pipelines/extraction/ray_graph.py"],
    "pipelines/features/precomputed/test_scan.py": ["pipelines/features/precomputed/shard_import.py"],
    "pipelines/features/test_html_report.py": ["pipelines/features/summary.py"],
    "pipelines/features/test_shards.py": ["pipelines/features/receipt.py", "pipelines/features/shard_reader.py"],
    "pipelines/features/test_verify.py": ["pipelines/features/verify_sample.py", "pipelines/features/verify_shard.py"],
    "pipelines/lineage/test_trace.py": [
        "jobs/lineage.py",
        "pipelines/lineage/indexed.py",
        "pipelines/lineage/registered.py",
    ],
    "pipelines/models/test_detector_package.py": ["pipelines/models/config.py"],
    "pipelines/models/test_matcher.py": ["pipelines/models/tasks.py"],
    "pipelines/models/test_package.py": [
        "infra/model_artifacts.py",
        "pipelines/models/artifacts.py",
        "pipelines/models/pyfunc.py",
        "pipelines/models/signature.py",
    ],
    "pipelines/test_status.py": ["jobs/status.py"],
    "pipelines/training/sweeps/test_tuning.py": ["pipelines/training/sweeps/trial.py"],
    "pipelines/training/test_train.py": ["pipelines/training/driver.py"],
    "shan_model/test_baselines.py": ["shan_model/baselines/scan.py", "shan_model/baselines/vsepp.py"],
    "shan_model/test_compiled_gate.py": ["shan_model/gate_fuse_pool.py"],
    "pipelines/search/test_index.py": ["pipelines/search/gallery.py", "pipelines/search/partition_reader.py"],
    "pipelines/search/test_index_build.py": ["pipelines/search/candidate_search_build.py"],
    "pipelines/service/test_ranking.py": ["pipelines/service/share.py"],
    "pipelines/service/test_run.py": [
        "pipelines/service/deployments.py",
        "pipelines/service/detector.py",
        "pipelines/service/http_api.py",
        "pipelines/service/router.py",
        "pipelines/service/served.py",
    ],
    "pipelines/search/test_index_format.py": ["pipelines/search/layout.py", "pipelines/search/partition.py"],
}
"""Test files below tests/, and the modules without a test file of their own that each covers."""


def own_test(module: Path) -> Path:
    """Returns the path of the test file that mirrors a module, below tests/."""
    return module.with_name(f"test_{module.name}")


def without_own_test() -> set[str]:
    """Returns the modules, other than `__init__.py`, that have no test file of their own."""
    found = (path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    modules = (module for module in found if module.name != "__init__.py")
    return {module.as_posix() for module in modules if not (ROOT / "tests" / own_test(module)).is_file()}


def reached(test_source: str) -> set[str]:
    """Returns the modules that a test file imports or names by their dotted names, and those that these import."""
    named = set(re.findall(r"(?<![\w.])(?:infra|jobs|pipelines|shan_model)(?:\.\w+)+", test_source))
    direct = (imports(test_source) | named) & MODULES.keys()
    return direct.union(*map(imported_modules, direct))


def test_modules_without_a_test_file_are_listed_once():
    listed = [module for modules in COVERS.values() for module in modules]
    assert sorted(listed) == sorted(without_own_test())


@pytest.mark.parametrize("test_file", sorted(COVERS))
def test_covering_test_files_reach_their_modules(test_file: str):
    found = reached((ROOT / "tests" / test_file).read_text(encoding="utf-8"))
    modules = {module.removesuffix(".py").replace("/", ".") for module in COVERS[test_file]}
    assert modules <= found, f"{test_file} neither imports nor names {sorted(modules - found)}"


def readme_table(heading: str) -> str:
    """Returns the section of tests/README.md below a heading."""
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_readme_lists_every_fault_injection_test():
    files = {path.name for folder in ("faults", "cluster") for path in (ROOT / "tests" / folder).glob("test_*.py")}
    assert files - set(re.findall(r"test_\w+\.py", readme_table("Kinds of faults"))) == set()


def test_readme_lists_every_helper():
    modules = {path.stem for path in (ROOT / "tests" / "support").glob("*.py")} - {"__init__"}
    rows = re.findall(r"^\| (`.*?) \|", readme_table("Helpers in tests/support"), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == {
        name for name in modules if not name.startswith("test_")
    }


def test_readme_lists_every_tier():
    targets = re.findall(r"^(unit|test|faults\S*|e2e\S*|\w+-gpu):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(targets) <= set(re.findall(r"`make ([\w-]+)`", readme_table("Tiers")))


def test_a_wrong_entry_would_be_found():
    source = "from pipelines.features.index import FeatureSetIndex\nrun('jobs.search')\n"
    assert {"pipelines.features.index", "pipelines.features.receipt", "jobs.search"} <= reached(source)
    assert "pipelines.training.driver" not in reached(source)


def test_pages_share_one_stylesheet_and_one_charting_library():
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.*") if path.suffix in (".py", ".css")]
    texts = {path.name: path.read_text(encoding="utf-8") for path in files}
    assert [name for name in texts if name.endswith(".css")] == ["page.css"]
    assert [name for name, text in texts.items() if "<style" in text] == ["tables.py"]
    assert {name for name, text in texts.items() if "matplotlib" in text} == {"figures.py", "histogram.py"}
    assert not [name for name, text in texts.items() if "<svg" in text]

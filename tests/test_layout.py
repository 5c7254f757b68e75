"""Tests mirror the packages: `pipelines/features/index.py` is tested by `tests/pipelines/features/test_index.py`.

COVERS lists the few modules without a test file of their own, each with the file that covers it. That file imports the
module, or a module that imports it, or names it (commands run as `jobs.<command>`, some code in other processes).
SEVERAL_MODULES lists the few test files without a module of their name.
"""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.test_imports import MODULES, imported_modules, imports

PACKAGES = ("infra", "jobs", "pipelines", "shan_model")
TOP_LEVEL = {*PACKAGES, "tests", "docs", "scripts", ".ci", ".github", "Makefile", "pyproject.toml", "ray_cluster.yaml"}
TOP_LEVEL |= {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "constraints.txt"}
TOP_LEVEL |= {".gitignore", ".pre-commit-config.yaml"}
COVERS = {
    "pipelines/evaluation/evaluated_version.py": ("pipelines/evaluation/test_promote.py", "one step of a promotion"),
    "pipelines/extraction/ray_graph.py": ("pipelines/extraction/test_run.py", "only an extraction executes a graph"),
    "pipelines/models/artifacts.py": ("pipelines/models/test_package.py", "two names without behaviour"),
    "pipelines/service/served.py": ("pipelines/service/test_run.py", "the state of a running service"),
    "pipelines/models/config.py": ("pipelines/models/test_detector_package.py", "one field without a check"),
}
"""Modules without a test file of their own: the file below tests/ that covers each, and why."""
SEVERAL_MODULES = {
    "infra/test_ci_files.py": "the Makefile, the workflow and the hooks",
    "infra/test_deploy_files.py": "the files of infra/deploy",
    "infra/test_monitoring_files.py": "dashboards, alerts and the configuration of Prometheus",
    "infra/test_platforms.py": "every module, as on macOS",
    "jobs/test_bad_input.py": "errors of every command",
    "jobs/test_failing_tracking_server.py": "errors of every command",
    "pipelines/detectors/test_documented_detector.py": "the example of a page in docs",
    "pipelines/features/test_stored_feature_set.py": "a fixture of version 0.2",
    "pipelines/models/test_mlflow_serve.py": "a registered model behind MLflow's server",
    "pipelines/search/test_stored_index.py": "a fixture of version 0.2",
    "pipelines/service/page/test_page_in_browser.py": "JavaScript and HTML",
    "pipelines/training/sweeps/test_stored_sweep.py": "a fixture of version 0.2",
    "pipelines/training/test_stored_run.py": "a fixture of version 0.2",
    "shan_model/test_baselines.py": "what the modules of a package have in common",
}
"""Test files that mirror no module, and what they test instead."""


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


def test_modules_without_a_test_file_are_listed():
    assert set(COVERS) == without_own_test()


def test_test_files_without_a_module_are_listed():
    files = (path.relative_to(ROOT / "tests") for package in PACKAGES for path in (ROOT / "tests" / package).rglob("*"))
    tests = [path for path in files if path.match("test_*.py")]
    mirrored = [path for path in tests if (ROOT / path.with_name(path.name.removeprefix("test_"))).is_file()]
    assert {path.as_posix() for path in set(tests) - set(mirrored)} == set(SEVERAL_MODULES)


@pytest.mark.parametrize("module", sorted(COVERS))
def test_the_covering_test_file_reaches_the_module(module: str):
    test_file, reason = COVERS[module]
    assert reason
    found = reached((ROOT / "tests" / test_file).read_text(encoding="utf-8"))
    assert module.removesuffix(".py").replace("/", ".") in found, f"{test_file} neither imports nor names {module}"


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
    assert {name for name in texts if name.endswith(".css")} == {"page.css", "search.css"}  # reports, search service
    assert [name for name, text in texts.items() if "<style" in text] == ["tables.py"]
    assert {name for name, text in texts.items() if "matplotlib" in text} == {"figures.py", "histogram.py"}
    assert not [name for name, text in texts.items() if "<svg" in text]


def test_the_top_level_is_fixed():
    """What a test writes into the working directory would be committed there."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {path.split("/", 1)[0] for path in listed.splitlines()} == TOP_LEVEL

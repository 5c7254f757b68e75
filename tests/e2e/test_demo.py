"""What `make demo` promises: clear retrieval on scenes that were never seen, for a model pulled by name."""

import os
import re
import subprocess
import sys
from pathlib import Path

from infra.tracking import TrackingConfig, connect
from tests.support import ROOT


def test_the_demo_reaches_three_times_chance_on_unseen_scenes(tmp_path: Path):
    result = subprocess.run(
        [sys.executable, "-m", "jobs.quickstart"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=590,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    tracking = connect(TrackingConfig(uri=f"sqlite:///{tmp_path}/build/mlflow/mlflow.db"))
    version = tracking.client().get_model_version_by_alias("shan-scenes", "champion")
    metrics = tracking.client().get_run(version.run_id).data.metrics
    assert metrics["test_rsum"] >= 3 * metrics["test_random_rsum"]
    # Every query of the fresh process is a caption of a test scene: some of them must find it first.
    assert re.search(r"^  1\. test_\d+\.png  \S+  \*$", result.stdout, re.MULTILINE)

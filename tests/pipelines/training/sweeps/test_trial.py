"""How the MLflow run of a trial ends. `tests/faults/test_sweep_faults.py` runs trials."""

import pytest

from infra.tracking import Tracking
from pipelines.training.setup import TrainingSetup
from pipelines.training.sweeps.trial import STOPPED_BY, SweepContext


@pytest.mark.parametrize("before", ["RUNNING", "FAILED", "KILLED"])
@pytest.mark.parametrize(("finished", "status", "stopped_by"), [(False, "KILLED", "parent"), (True, "FINISHED", None)])
def test_a_run_ends_whatever_its_status(
    tracking: Tracking, before: str, finished: bool, status: str, stopped_by: str | None
):
    """A stopped trial may have failed by then, and an earlier session may have been interrupted."""
    run_id = tracking.create_run("m", {})
    tracking.client().update_run(run_id, status=before)
    SweepContext("set", "m", TrainingSetup(), tracking, "parent").end_run(run_id, finished)
    run = tracking.client().get_run(run_id)
    assert (run.info.status, run.data.tags.get(STOPPED_BY)) == (status, stopped_by)


def test_a_finished_run_stays_finished(tracking: Tracking):
    run_id = tracking.create_run("m", {})
    tracking.client().set_terminated(run_id)
    SweepContext("set", "m", TrainingSetup(), tracking, "parent").end_run(run_id, finished=False)
    run = tracking.client().get_run(run_id)
    assert (run.info.status, STOPPED_BY in run.data.tags) == ("FINISHED", False)

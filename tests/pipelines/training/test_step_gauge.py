"""The gauge of a training's step: recorded by the driver, from the start on, and never lower."""

import pytest

from infra.metrics import TRAINING_STEP
from infra.progress import worker_bar
from pipelines.training.step_gauge import step_gauge
from tests.support.processes import wait_until
from tests.support.scrape import Scraped

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.mark.long  # waits for six reports of Ray
def test_the_gauge_is_the_highest_step_of_the_bar():
    """Workers start, take 5 steps, and start again from the checkpoint of step 3."""
    name, seen = TRAINING_STEP.exported, list[int]()

    def on_steps(step: int) -> None:
        seen.append(step)
        record(step)

    with Scraped() as scraped, step_gauge("gauged") as record, worker_bar("train", 9, "step", "", on_steps) as bar:
        wait_until(lambda: scraped.count(name, run="gauged") == 1, 60)
        assert scraped.total(name, run="gauged") == 0
        bar.update.remote(5)
        wait_until(lambda: scraped.total(name, run="gauged") == 5, 60)
        bar.update.remote(3)
        wait_until(lambda: seen[-1] == 3)
        scraped.settle()
        assert scraped.total(name, run="gauged") == 5

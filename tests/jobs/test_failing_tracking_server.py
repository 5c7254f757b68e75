"""A server that fails after the connection has succeeded: one line and exit code 2, or a warning after a result."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.tracking import TrackingConfig, connect
from pipelines.features.feature_set import FeatureSet
from tests.support.commands import call_command
from tests.support.faulty_proxy import BUSY, CUT_BEFORE, FaultyProxy, faulty_proxy
from tests.support.small_models import model, register_model, small_set

MODEL, FEATURES = "--model=models:/m@champion", "--features"


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return small_set(tmp_path_factory.mktemp("features"), 12)


@pytest.fixture
def proxy(mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A server that only answers requests about experiments: all that a connection needs."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with faulty_proxy(mlflow_uri) as proxy:
        for path in ("registered-models", "model-versions", "runs", "logged-models"):
            proxy.next(CUT_BEFORE, 100, path=f"/mlflow/{path}/")
        yield proxy


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", MODEL, FEATURES],
        ["behaviour", MODEL, FEATURES],
        ["rerank", MODEL, FEATURES],
        ["search", MODEL, FEATURES, "query"],
        ["promote", "--name=m", "--version=1", FEATURES],
        ["promote", "--name=m", "--rollback=why"],
        ["promote", "--name=m", "--unlock"],
        ["lineage", "models:/m@champion"],
    ],
    ids=" ".join,
)
def test_one_line_and_exit_code_2(
    command: list[str],
    proxy: FaultyProxy,
    features: FeatureSet,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    name, *options = command
    options = [option.replace(FEATURES, f"--features={features.uri}") for option in options]
    uri = f"--tracking.uri={proxy.endpoint}"
    code, _, errors = call_command(monkeypatch, capsys, f"jobs.{name}", uri, *options)
    assert code == 2
    (line,) = errors.strip().splitlines()
    assert line.startswith(f"error: tracking.uri {proxy.endpoint} is unreachable (")
    assert proxy.counts[CUT_BEFORE] > 0


@pytest.mark.long
def test_an_evaluation_whose_run_is_unwritable_is_printed(
    mlflow_uri: str,
    features: FeatureSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    tracking = connect(TrackingConfig(uri=mlflow_uri, experiment="unwritable"))
    register_model(tracking, "unwritable", model(features), features, tmp_path / "bundle")
    with faulty_proxy(mlflow_uri) as proxy:
        proxy.next(BUSY, 100, path="/mlflow/runs/log-inputs")
        options = [f"--features={features.uri}", f"--tracking.uri={proxy.endpoint}", "--tracking.experiment=unwritable"]
        command = ["jobs.evaluate", "--model=models:/unwritable/1", *options]
        code, printed, errors = call_command(monkeypatch, capsys, *command)
    assert (code, proxy.counts[BUSY] > 0) == (0, True)
    assert "| models:/unwritable/1 |" in printed
    assert "does not list split test of" in errors.splitlines()[-1]

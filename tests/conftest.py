"""The tiers of the tests, and the fixtures that they share: photos, one Ray session, an S3 server, an MLflow server.

A test's tier follows from its folder and from the servers it uses (`tier_of`). Where pytest cannot see that a test uses
a server, the test is marked. tests/README.md describes the tiers.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

from infra import tracking_file
from infra.cluster import ClusterConfig, connect
from infra.tracking import Tracking, TrackingConfig
from infra.tracking import connect as connect_tracking
from tests.support import ROOT
from tests.support.photos import Photos, flickr_photos, skimage_photos
from tests.support.servers import S3Server, aws_environment, mlflow_server, seaweed

PHOTOS = "SHAN_TEST_PHOTOS"
"""Environment variable: a folder with `dataset_flickr8k.json` and `images/`, whose photos the tests then use."""
TIERS = {
    "unit": "make unit",
    "integration": "make test",
    "faults": "make faults, or make faults-short",
    "cluster": "make e2e-cluster, or make faults-short",
    "gpu": "make test-gpu",
}
"""Every tier and the command that runs it."""
LONGEST = {"pipelines", "e2e", "cluster", "faults/test_training_faults.py"}
"""Groups of tests that take longest."""
SERVERS = {"ray_session", "s3_server", "mlflow_uri", "stack"}
"""Fixtures that start servers."""


def pytest_configure() -> None:
    """Shares the cores between the processes of a run, and with the commands that they start.

    Ray's workers run at nice 15 otherwise, and its monitors of logs and processes take a tenth of a core a session.
    Threads of torch that wait for one without a core cost most of the time.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_LOG_MONITOR_MANY_FILES_THRESHOLD", "0")  # look for new logs at this interval
    os.environ.setdefault("LOG_NAME_UPDATE_INTERVAL_S", "2")
    os.environ.setdefault("REPORTER_UPDATE_INTERVAL_MS", "60000")
    os.environ.setdefault("RAY_metrics_report_interval_ms", "3000")  # tests wait for metrics
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--short", action="store_true", help="no `long` tests; each kind of fault once")


def tier_of(item: pytest.Item) -> str:
    """Returns a test's tier: the one it is marked with, else that of its folder, else that of the servers it uses."""
    marked = [tier for tier in TIERS if item.get_closest_marker(tier)]
    if marked:
        return marked[0]
    folder = item.path.relative_to(ROOT / "tests").parts[0]
    if folder in TIERS:
        return folder
    return "integration" if folder == "e2e" or uses_servers(item) else "unit"


def group_of(item: pytest.Item) -> str:
    """Returns what one process runs: a folder's integration tests, tests of clusters and servers, or a file's tests."""
    tier, path = tier_of(item), item.path.relative_to(ROOT / "tests")
    if tier == "integration":
        return path.parts[0]
    return "cluster" if tier in ("faults", "cluster") and uses_servers(item) else str(path)


def uses_servers(item: pytest.Item) -> bool:
    return not SERVERS.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks each test with its tier, and leaves out long ones if --short is given."""
    for item in items:
        tier = tier_of(item)
        item.add_marker(tier)
        if tier in ("faults", "cluster") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))
        # With pytest-xdist, each group runs in one process, which starts servers and sets up modules once.
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
    # Short groups run last, so that the processes of a run end at about the same time.
    items.sort(key=lambda item: (group_of(item) not in LONGEST, tier_of(item) == "unit"))
    if config.getoption("--short"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names file contents by their argument: some differ between the processes of a run (gzip stores the time)."""
    return argname if isinstance(val, bytes) or (isinstance(val, str) and len(val) > 60) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints which tiers `-m` left out and how to run them."""
    expression = config.getoption("markexpr")
    if config.getoption("--short"):
        terminalreporter.write_line("left out: long tests; run them by make faults and make e2e-cluster")
    for tier in left_out(expression):
        terminalreporter.write_line(f"left out: the tier '{tier}'; run it by {TIERS[tier]}")


def left_out(expression: str) -> list[str]:
    """Returns the tiers of which an argument of `-m` selects only long tests, or none."""
    selects = Expression.compile(expression) if expression else None
    return [tier for tier in TIERS if selects and not selects.evaluate(lambda mark, **_: mark == tier)]  # noqa: B023


@pytest.fixture(autouse=True)
def _own_tracking_uri() -> Iterator[None]:
    """Resets the URIs that MLflow keeps in its module and in the environment, where the next test would find them."""
    yield
    if mlflow := sys.modules.get("mlflow"):
        mlflow.set_registry_uri("")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def short(pytestconfig: pytest.Config) -> bool:
    """Whether --short is given. Tests then repeat a fault as few times as its kind needs."""
    return bool(pytestconfig.getoption("--short"))


@pytest.fixture(scope="session")
def real_photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """Returns 24 photos of the folder that SHAN_TEST_PHOTOS names if it is set, else the 20 of scikit-image."""
    folder = tmp_path_factory.mktemp("photos")
    source = os.environ.get(PHOTOS)
    return flickr_photos(Path(source), folder) if source else skimage_photos(folder)


@pytest.fixture(scope="session")
def ray_session(s3_server: S3Server) -> Iterator[None]:
    """The one Ray session of the test process, with 4 logical CPUs. Its workers find the S3 server, too."""
    import ray

    os.environ["RAY_AUTH_MODE"] = "disabled"
    connect(ClusterConfig(local_cpus=4, local_object_store_mb=150))
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The one S3 server of the test process; AWS clients find it by environment variables."""
    with seaweed(tmp_path_factory.mktemp("s3")) as server, aws_environment(server.environment()):
        yield server


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The one MLflow server of the test process."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server.uri


@pytest.fixture(scope="session", autouse=True)
def create_tracking_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], None]]:
    """The function that creates the SQLite file of a tracking store.

    MLflow computes for two seconds to create one, so new stores of the test process are copies of the first one.
    """
    create, first = tracking_file._create, tmp_path_factory.mktemp("tracking") / "mlflow.db"

    def copy(file: Path) -> None:
        if not first.exists():
            create(first)
        shutil.copyfile(first, file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking_file, "_create", copy)
        yield create


@pytest.fixture
def tracking(tmp_path: Path) -> Tracking:
    """An empty tracking store on SQLite."""
    return connect_tracking(TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"))


@pytest.fixture
def karpathy(tmp_path: Path):
    """Returns a function that writes rows (filename, split, captions) as a Karpathy JSON and returns its path."""

    def write(rows: list[tuple[str, str, list[str]]], name: str = "tiny") -> Path:
        images = [
            {"filename": file, "split": split, "sentences": [{"raw": caption} for caption in captions]}
            for file, split, captions in rows
        ]
        path = tmp_path / f"dataset_{name}.json"
        path.write_text(json.dumps({"dataset": name, "images": images}))
        return path

    return write

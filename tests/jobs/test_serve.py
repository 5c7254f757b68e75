"""The command `jobs.serve`: what it refuses before it starts Ray."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.search.index_build import IndexBuild
from tests.support.commands import call_command
from tests.support.indexes import build_here, loaded
from tests.support.small_models import small_set

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> IndexBuild:
    folder = tmp_path_factory.mktemp("built")
    features = small_set(folder, 12)
    return build_here(loaded(folder / "model", features), [features], folder / "indexes")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHAN_SERVICE_TOKEN", raising=False)
    return lambda *arguments: call_command(monkeypatch, capsys, "jobs.serve", *map(str, arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--index must be given"),
        (["--index=nowhere"], "nowhere: no finished search index here"),
        (["--index={index}", "--pin=3"], "--pin has no effect: "),
        (["--index={index}", "--service.num_shares=0"], "service.num_shares is 0; it must be between 1 and 1000000"),
        (
            ["--index={index}", "--service.image_sources=/x/"],
            """service.image_sources is '/x/'; give a list, such as '["/x/"]'""",
        ),
        (["--index={index}", "--service.host=192.0.2.1"], "the environment variable SHAN_SERVICE_TOKEN is not set"),
        (["--index={index}", "--cluster.address=127.0.0.1:9"], "cluster.address 127.0.0.1:9 is unreachable"),
    ],
)
def test_bad_input_is_one_line(run: Run, index: IndexBuild, arguments: list[str], message: str):
    code, _, err = run(*(argument.format(index=index.store.uri) for argument in arguments))
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("token", ["secret\n", "a secret", "schlüssel"])
def test_a_token_that_no_client_can_send_is_refused(
    run: Run, index: IndexBuild, monkeypatch: pytest.MonkeyPatch, token: str
):
    monkeypatch.setenv("SHAN_SERVICE_TOKEN", token)
    code, _, err = run("--index", index.store.uri)
    assert code == 2
    assert err.startswith("error: the environment variable SHAN_SERVICE_TOKEN has a blank, a line break or a character")


def test_a_port_in_use_is_named(run: Run, index: IndexBuild):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, _, err = run("--index", index.store.uri, "--service.port", port)
    assert code == 2
    assert err.startswith(f"error: service.port {port} of service.host 127.0.0.1 cannot be used (")
    assert err.rstrip().endswith("choose another")

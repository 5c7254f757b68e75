"""The whole stack for real: SeaweedFS, PostgreSQL, an MLflow server on both, and a Ray head and nodes as hosts of their
own, with token authentication. The whole line runs there by `jobs.submit`, and loses a node in extraction and training.
"""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from infra.storage.open import open_store
from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.datasets.scenes.generate import generate
from tests.support.clusters import ENVIRONMENT, LocalCluster, local_cluster, tree
from tests.support.hosts import Host, hosts
from tests.support.postgres import Postgres, postgres
from tests.support.processes import ROOT, command_line, wait_until
from tests.support.servers import S3Server, aws_environment, mlflow_server, seaweed

pytestmark = pytest.mark.timeout(600)  # make e2e-cluster holds all of them to that

NODE_CPUS = 3
SMALL = ["--model.joint_dim=16", "--model.word_dim=16", "--train.batch_size=16", "--train.epochs=4"]
SMALL += ["--train.learning_rate=5e-3", "--train.hard_negative_warmup_epochs=1"]


@dataclass(frozen=True)
class Stack:
    """A team's cluster."""

    folder: Path
    s3: S3Server
    database: Postgres
    mlflow_uri: str
    cluster: LocalCluster
    nodes: list[Host]
    token: str
    told: list[str] = field(default_factory=list)
    """What its users have seen of their jobs."""

    def uri(self, path: str) -> str:
        """Of something in its bucket."""
        return f"s3://{self.s3.bucket}/{path}"

    def submit(self, *arguments: str) -> "subprocess.Popen[str]":
        """A user's `python -m jobs.submit`, who knows the address and the token and nothing else."""
        environment = _without_aws() | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.submit", *arguments, f"--address={self.cluster.dashboard}"],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def done(self, *arguments: str) -> str:
        """What a submitted job has printed when it has succeeded."""
        return self.finished(self.submit(*arguments))

    def finished(self, process: "subprocess.Popen[str]") -> str:
        """What it has printed when it has succeeded."""
        said, _ = process.communicate(timeout=300)
        self.told.append(said)
        assert process.returncode == 0, said
        return said

    def here(self, job: str, *arguments: str) -> str:
        """What a job prints in a fresh process outside the cluster, which finds the stores by its environment."""
        environment = _without_aws() | self.s3.environment() | {"MLFLOW_TRACKING_URI": self.mlflow_uri}
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        command = [sys.executable, "-m", job, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pulled(self, model: str) -> float:
        """A score by a model that another team's process pulls: it knows the address of MLflow and nothing else."""
        code = (
            f"import mlflow, numpy, pandas; matcher = mlflow.pyfunc.load_model({model!r});"
            "row = {'regions': numpy.ones((36, 2048)).tolist(), 'caption': 'a red circle'};"
            "print(matcher.predict(pandas.DataFrame([row]))[0])"
        )
        environment = _without_aws() | {"MLFLOW_TRACKING_URI": self.mlflow_uri, "PYTHONPATH": ""}
        return float(
            subprocess.run(
                [sys.executable, "-c", code],
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()[-1]
        )

    def stored(self, path: str) -> dict[str, str]:
        """sha256 of every object below a path of the bucket."""
        store = open_store(self.uri(path))
        return {name: sha256(store.read(name)).hexdigest() for name in store.objects()}


def _without_aws() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_", "MLFLOW_"))}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder, token = tmp_path_factory.mktemp("stack"), secrets.token_hex(32)
    with ExitStack() as stack:
        here, (head, *nodes) = stack.enter_context(hosts(3))
        s3 = stack.enter_context(seaweed(folder / "s3", here))
        stack.enter_context(aws_environment(s3.environment()))
        database = stack.enter_context(postgres())
        mlflow = stack.enter_context(
            mlflow_server(
                folder,
                host=here,
                backend=database.uri,
                artifacts=f"s3://{s3.bucket}/mlflow",
                environment={"PGPASSWORD": database.password, "MLFLOW_S3_ENDPOINT_URL": s3.endpoint},
            )
        )
        environment = ENVIRONMENT | s3.environment() | {"MLFLOW_TRACKING_URI": mlflow.uri, "PYTHONPATH": ""}
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        cluster = stack.enter_context(local_cluster(0, head, environment, dashboard=True))
        for node in nodes:
            cluster.add_node(NODE_CPUS, node)
        yield Stack(folder, s3, database, mlflow.uri, cluster, nodes, token)


@pytest.fixture(scope="module")
def dataset(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments that name rendered scenes in the bucket."""
    folder = tmp_path_factory.mktemp("scenes")
    file = generate(ScenesConfig(train=64, val=16, test=16), folder, lambda _: None)
    store = open_store(stack.uri("photos"))
    for path in (folder / "photos").iterdir():
        store.put_if_absent(path.name, path.read_bytes())
    open_store(stack.uri("sets")).put_if_absent(file.name, file.read_bytes())
    return [f"--dataset={stack.uri(f'sets/{file.name}')}", f"--photos={stack.uri('photos')}"]


def extract(dataset: list[str], output: str) -> list[str]:
    return ["extract", *dataset, f"--extract.output={output}", "--extract.photos_per_shard=4"]


def train(stack: Stack, features: str, name: str) -> list[str]:
    place = f"--train.output={stack.uri(f'runs-{name}')}"
    cache = f"--cache.folder={stack.cluster.folder}/cache"
    return [
        "train",
        f"--features={features}",
        f"--name={name}",
        place,
        cache,
        "--train.checkpoint_every_n_steps=4",
        *SMALL,
    ]


def weights(stack: Stack, name: str) -> dict[str, str]:
    """sha256 of every tensor file of the kept checkpoints."""
    found = stack.stored(f"runs-{name}")
    kept = {path.partition("/")[2]: value for path, value in found.items() if path.endswith(".safetensors")}
    assert any("epoch-004/" in path for path in kept)
    return kept


def test_the_whole_line_loses_a_node_twice_and_comes_to_the_same(stack: Stack, dataset: list[str]):
    stack.done(*extract(dataset, stack.uri("calm")))
    disturbed = stack.submit(*extract(dataset, stack.uri("features")))
    features = open_store(stack.uri("features"))
    wait_until(lambda: sum(name.endswith(".receipt.json") for name in features.objects()) >= 3, 120, 0.1)
    detects = [node for node in stack.cluster.nodes if runs(node, "MapWorker")]
    lost = stack.cluster.nodes.index(detects[0])
    stack.cluster.lose(detects[0])
    assert not any(name.endswith("/index.json") for name in features.objects())
    said = stack.finished(disturbed)
    assert "96 photos planned = 96 written + 0 rejected" in said
    assert stack.stored("features") == stack.stored("calm")

    found = re.search(r"s3://\S+@[0-9a-f]{12}", said)
    assert found
    uri = found[0]
    stack.cluster.add_node(NODE_CPUS, stack.nodes[lost])
    said = stack.done(*train(stack, uri, "calm"))
    assert "calm version 1" in said
    disturbed = stack.submit(*train(stack, uri, "shan"))
    checkpoints = open_store(stack.uri("runs-shan"))
    wait_until(lambda: any("/step-" in name for name in checkpoints.objects()), 120, 0.1)
    trains = [node for node in stack.cluster.nodes if node.poll() is None and runs(node, "RayTrainWorker")]
    stack.cluster.lose(trains[0])
    assert disturbed.poll() is None
    status = stack.here("jobs.status", f"--address={stack.cluster.dashboard}")  # while training starts again
    assert re.search(r"\| train-\w+\.1 \| running \|", status)
    places = [*stack.nodes, stack.nodes[lost]]
    stack.cluster.add_node(NODE_CPUS, places[stack.cluster.nodes.index(trains[0])])
    assert "shan version 1" in stack.finished(disturbed)
    assert weights(stack, "shan") == weights(stack, "calm")

    compared = stack.done("evaluate", "--model", "models:/shan/1", "models:/calm/1", f"--features={uri}")
    assert "models:/shan/1" in compared
    said = stack.done("promote", "--name=shan", "--version=1", f"--features={uri}", "--promote.confidence=0.5")
    assert "models:/shan@champion is version 1" in said
    assert stack.pulled("models:/shan@champion") > 0
    status = stack.here("jobs.status", f"--features={stack.uri('features')}")
    assert "| finished @" in status
    assert re.search(r"\| shan \| 1 \| 1 \| .*the first version", status)


def runs(node: "subprocess.Popen[bytes]", what: str) -> bool:
    """Whether an actor of that name lives on a node."""
    return any(what in command_line(pid) for pid in tree(node.pid))


def test_a_cluster_takes_no_orders_without_the_token(stack: Stack):
    for token in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
        command = [sys.executable, "-m", "jobs.submit", "status", f"--address={stack.cluster.dashboard}"]
        refused = subprocess.run(
            command, cwd=ROOT, env=_without_aws() | token, capture_output=True, text=True, check=False
        )
        assert refused.returncode == 3, refused.stdout + refused.stderr
        assert "RAY_AUTH_TOKEN" in refused.stderr
        assert stack.token not in refused.stderr


def test_no_secret_is_stored_or_logged(stack: Stack):
    """After all that: objects of the bucket, MLflow's database, and files of Ray, its jobs and the servers, but for the
    S3 server's own."""
    secrets_ = {"token": stack.token, "S3": stack.s3.secret_key, "PostgreSQL": stack.database.password}
    store = open_store(stack.uri(""))
    places = {f"s3 {name}": store.read(name) for name in store.objects()}
    places |= {"database": stack.database.dump(), "its log": stack.database.log.read_bytes()}
    places |= {f"output {number}": said.encode() for number, said in enumerate(stack.told)}
    for folder in (stack.cluster.folder, stack.folder):
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_relative_to(stack.folder / "s3")]
        places |= {str(path): path.read_bytes() for path in files}
    assert len(places) > 200
    leaks = [
        (kind, place) for kind, secret in secrets_.items() for place, data in places.items() if secret.encode() in data
    ]
    assert leaks == []

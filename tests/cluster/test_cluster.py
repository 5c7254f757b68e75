"""The pipeline on a real stack: SeaweedFS, PostgreSQL, an MLflow server on both, and a Ray head and nodes as hosts.

The cluster requires a token. Jobs are submitted by `jobs.submit`. A node is lost during extraction and during training.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from infra.storage.open import open_store
from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.datasets.scenes.generate import generate
from tests.support.clusters import tree
from tests.support.processes import DEADLINE_S, ROOT, command_line, wait_until
from tests.support.servers import free_ports
from tests.support.services import ask
from tests.support.stack import NODE_CPUS, Stack, clean_environment, running_stack

SCENES = ScenesConfig(train=24, val=8, test=8)
PHOTOS = 40
SMALL = ["--model.joint_dim=16", "--model.word_dim=16", "--train.batch_size=16", "--train.epochs=3"]
SMALL += ["--train.learning_rate=5e-3", "--train.hard_negative_warmup_epochs=1", "--train.checkpoint_every_n_steps=4"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="module")
def dataset(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Returns the arguments that name rendered scenes in the bucket."""
    folder = tmp_path_factory.mktemp("scenes")
    file = generate(SCENES, folder, lambda _: None)
    store = open_store(stack.uri("photos"))
    for path in (folder / "photos").iterdir():
        store.put_if_absent(path.name, path.read_bytes())
    open_store(stack.uri("sets")).put_if_absent(file.name, file.read_bytes())
    return [f"--dataset={stack.uri(f'sets/{file.name}')}", f"--photos={stack.uri('photos')}"]


def extract(dataset: list[str], output: str) -> list[str]:
    return ["extract", *dataset, f"--extract.output={output}", "--extract.photos_per_shard=4", "--log-format=json"]


def train(stack: Stack, features: str, name: str) -> list[str]:
    output, cache = f"--train.output={stack.uri(f'runs-{name}')}", f"--cache.folder={stack.cluster.folder}/cache"
    return ["train", f"--features={features}", f"--name={name}", output, cache, *SMALL]


def weights(stack: Stack, name: str) -> dict[str, str]:
    """Returns the sha256 of every tensor file of the stored checkpoints."""
    found = stack.stored(f"runs-{name}")
    kept = {path.partition("/")[2]: value for path, value in found.items() if path.endswith(".safetensors")}
    assert any("epoch-003-lease-000001/" in path for path in kept)
    return kept


def test_lost_nodes_in_extraction_and_training_change_nothing(stack: Stack, dataset: list[str], short: bool):
    """The long form compares both with uninterrupted jobs, bit by bit, as tests/faults does without a cluster.

    The short form ends with the extraction.
    """
    uri = extract_while_a_node_is_lost(stack, dataset)
    if short:
        return
    stack.done(*extract(dataset, stack.uri("uninterrupted")))
    assert stack.stored("features") == stack.stored("uninterrupted")

    train_while_a_node_is_lost(stack, uri)
    assert "uninterrupted version 1" in stack.done(*train(stack, uri, "uninterrupted"))
    assert weights(stack, "shan") == weights(stack, "uninterrupted")
    assert "models:/shan/1" in stack.done("evaluate", "--model=models:/shan/1", f"--features={uri}")

    output = stack.done("promote", "--name=shan", "--version=1", f"--features={uri}", "--promote.confidence=0.5")
    assert "models:/shan@champion is version 1" in output
    assert stack.pulled("models:/shan@champion") > 0
    status = stack.here("jobs.status", f"--feature-root={stack.uri('features')}")
    assert "| finished @" in status
    assert re.search(r"\| shan \| 1 \| 1 \| .*the first version", status)
    search_the_champion(stack, uri)


def extract_while_a_node_is_lost(stack: Stack, dataset: list[str]) -> str:
    """Extracts, and loses the node of the detector. Returns the URI of the feature set."""
    cluster, job = stack.cluster, stack.submit(*extract(dataset, stack.uri("features")))
    store = open_store(stack.uri("features"))
    wait_until(lambda: sum(name.endswith(".receipt.json") for name in store.objects()) >= 3, every_s=0.1)
    node = cluster.node_running("MapWorker")
    cluster.lose(node)
    assert not any(name.endswith("/index.json") for name in store.objects())
    output = stack.finished(job)
    cluster.add_node(NODE_CPUS, cluster.hosts[node.pid])
    assert f"{PHOTOS} photos planned = {PHOTOS} written + 0 rejected" in output
    found = re.search(r"s3://\S+@[0-9a-f]{12}", output)
    assert found
    assert f"{PHOTOS} photos" in stack.here("jobs.features", "verify", found[0])
    return found[0]


def train_while_a_node_is_lost(stack: Stack, uri: str) -> None:
    """Trains, and loses and replaces a node with a worker. Checks the registered version and the metrics of its run."""
    cluster, job = stack.cluster, stack.submit(*train(stack, uri, "shan"))
    checkpoints = open_store(stack.uri("runs-shan"))
    wait_until(lambda: any("/step-" in name for name in checkpoints.objects()), every_s=0.1)
    node = cluster.node_running("RayTrainWorker")
    cluster.lose(node)
    assert job.poll() is None
    status = stack.here("jobs.status", f"--address={cluster.dashboard}")  # while the training restarts
    assert re.search(r"\| train-\w+\.1 \| running \|", status)
    cluster.add_node(NODE_CPUS, cluster.hosts[node.pid])
    output = stack.finished(job)
    found = re.search(r"shan version 1 \(run ([0-9a-f]{32})\)", output)
    assert found, output
    steps = [point["step"] for point in stack.history(found[1], "val_rsum")]
    assert steps == [steps[0] * epoch for epoch in (1, 2, 3)]


def search_the_champion(stack: Stack, uri: str) -> None:
    """Builds the champion's index and serves it by submitted jobs, searches over HTTP, and stops the service."""
    output = stack.uri("indexes")
    built = stack.done("index", "--model=models:/shan@champion", f"--features={uri}", f"--index.output={output}")
    found = re.search(rf"{output}/[\w-]+", built)
    assert found, built
    head, (port,) = stack.cluster.address.partition(":")[0], free_ports(1)
    listen = [f"--service.host={head}", f"--service.port={port}", "--service.num_detectors=0"]
    job = stack.submit("serve", f"--index={found[0]}", *listen)
    assert job.stdout
    line = next((line for line in job.stdout if "is served at" in line), "")
    assert f"http://{head}:{port}" in line
    lines = [command_line(pid) for node in stack.cluster.nodes for pid in tree(node.pid)]
    assert any("ServeReplica" in line for line in lines)
    assert not any("ProxyActor" in line for line in lines), "they cannot listen on the head's address"
    query = f"http://{head}:{port}/search?sentence=a+red+circle&k=3"
    assert ask(query)[0] == 401
    status, hits, _ = ask(query, Authorization=f"Bearer {stack.token}")
    assert (status, len(hits["hits"]), hits["partial"]) == (200, 3, False)
    metrics = ask(f"http://{head}:{port}/metrics", Authorization=f"Bearer {stack.token}")[1]
    stack.outputs.append(metrics.decode())  # which may not have a secret, either
    (name,) = re.findall(r"serve-\w+\.1", stack.here("jobs.status", f"--address={stack.cluster.dashboard}"))
    stack.done("stop", name)
    stack.outputs.append(job.communicate(timeout=DEADLINE_S)[0])
    assert job.returncode == 4


def test_a_cluster_rejects_requests_without_the_token(stack: Stack):
    for token in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
        command = [sys.executable, "-m", "jobs.submit", "status", f"--address={stack.cluster.dashboard}"]
        refused = subprocess.run(
            command, cwd=ROOT, env=clean_environment() | token, capture_output=True, text=True, check=False
        )
        assert refused.returncode == 3, refused.stdout + refused.stderr
        assert "RAY_AUTH_TOKEN" in refused.stderr
        assert stack.token not in refused.stderr


def exported_metrics(stack: Stack) -> dict[str, bytes]:
    """Returns what the agents of the nodes, the dashboard and the autoscaler export, as Prometheus discovers them."""
    (discovery,) = {path.resolve() for path in stack.cluster.folder.rglob("prom_metrics_service_discovery.json")}
    (group,) = json.loads(discovery.read_text(encoding="utf-8"))
    assert {target.rpartition(":")[0] for target in group["targets"]} >= {host.address for host in stack.nodes}
    return {url: ask(url)[1] for target in group["targets"] if (url := f"http://{target}/metrics")}


def test_no_secret_is_stored_or_logged(stack: Stack):
    """Searches the bucket, the database, metrics, and all files of Ray, its jobs and the servers, but the S3 server's.

    Some jobs log JSON, others text.
    """
    secrets_ = {"token": stack.token, "S3": stack.s3.secret_key, "PostgreSQL": stack.database.password}
    secrets_ |= {"MLflow": stack.mlflow.password}
    store = open_store(stack.uri(""))
    places = {f"s3 {name}": store.read(name) for name in store.objects()}
    places |= {"database": stack.database.dump(), "its log": stack.database.log.read_bytes()}
    places |= {f"output {number}": output.encode() for number, output in enumerate(stack.outputs)}
    for folder in (stack.cluster.folder, stack.folder):
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_relative_to(stack.folder / "s3")]
        places |= {str(path): path.read_bytes() for path in files}
    metrics = exported_metrics(stack)
    assert any(b"ray_shan_extraction_photos_written_total" in text for text in metrics.values())
    places |= metrics
    assert len(places) > 100
    leaks = [
        (kind, place) for kind, secret in secrets_.items() for place, data in places.items() if secret.encode() in data
    ]
    assert leaks == []

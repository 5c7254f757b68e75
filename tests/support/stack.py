"""The servers and the cluster of a team: SeaweedFS, PostgreSQL, MLflow with users, and a Ray head and two nodes."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

import requests

from infra.storage.open import open_store
from tests.support.clusters import ENVIRONMENT, LocalCluster, local_cluster
from tests.support.hosts import Host, hosts
from tests.support.postgres import Postgres, postgres
from tests.support.processes import DEADLINE_S, ROOT
from tests.support.servers import MlflowServer, S3Server, aws_environment, mlflow_server, seaweed

NODE_CPUS = 3


@dataclass(frozen=True)
class Stack:
    """The servers and the cluster of a team, and what its users do with them."""

    folder: Path
    s3: S3Server
    database: Postgres
    mlflow: MlflowServer
    cluster: LocalCluster
    nodes: list[Host]
    token: str
    """What jobs are submitted with, and what clients of the search service send."""
    outputs: list[str] = field(default_factory=list)
    """What submitted jobs have printed."""

    def uri(self, path: str) -> str:
        """Returns the URI of a path in the bucket."""
        return f"s3://{self.s3.bucket}/{path}"

    def submit(self, *arguments: str, output: int | TextIO = subprocess.PIPE) -> "subprocess.Popen[str]":
        """Starts `python -m jobs.submit` as a user who knows only the address and the token."""
        environment = clean_environment() | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.submit", *arguments, f"--address={self.cluster.dashboard}"],
            cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def done(self, *arguments: str) -> str:
        """Runs a submitted job to its end and returns its output."""
        return self.finished(self.submit(*arguments))

    def finished(self, process: "subprocess.Popen[str]") -> str:
        """Waits for a submitted job, checks that it succeeded and returns its output."""
        output, _ = process.communicate(timeout=DEADLINE_S)
        self.outputs.append(output)
        assert process.returncode == 0, output
        return output

    def here(self, job: str, *arguments: str) -> str:
        """Runs a command outside the cluster, which finds the servers by its environment, and returns its output."""
        environment = clean_environment() | self.s3.environment() | self.tracking()
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        command = [sys.executable, "-m", job, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def tracking(self) -> dict[str, str]:
        """Returns the variables of a client of MLflow."""
        return _tracking(self.mlflow)

    def history(self, run: str, metric: str) -> list[dict[str, Any]]:
        """Returns all values of a metric; MLflow refuses the request without the password."""
        url = f"{self.mlflow.uri}/api/2.0/mlflow/metrics/get-history"
        parameters = {"run_id": run, "metric_key": metric}
        assert requests.get(url, parameters, timeout=60).status_code == 401
        return requests.get(url, parameters, auth=("admin", self.mlflow.password), timeout=60).json()["metrics"]

    def pulled(self, model: str) -> float:
        """Returns a score of a model that a process without the project loads from MLflow."""
        code = (
            f"import mlflow, numpy, pandas; matcher = mlflow.pyfunc.load_model({model!r});"
            "row = {'regions': numpy.ones((36, 2048)).tolist(), 'caption': 'a red circle'};"
            "print(matcher.predict(pandas.DataFrame([row]))[0])"
        )
        environment = clean_environment() | self.tracking() | {"PYTHONPATH": ""}
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
        """Returns the sha256 of every object below a path of the bucket but reports of speed, which always differ."""
        store = open_store(self.uri(path))
        names = [name for name in store.objects() if not name.endswith("/report.json")]
        return {name: sha256(store.read(name)).hexdigest() for name in names}


def _tracking(mlflow: MlflowServer) -> dict[str, str]:
    users = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": mlflow.password}
    return {"MLFLOW_TRACKING_URI": mlflow.uri} | users


def clean_environment() -> dict[str, str]:
    """Returns the variables of this process but those by which clients find servers."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_", "MLFLOW_"))}


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    """Starts the servers, a head without CPUs, and two nodes. Everything ends with the block."""
    token = secrets.token_hex(32)
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
                password=secrets.token_hex(32),
                environment={"PGPASSWORD": database.password, "MLFLOW_S3_ENDPOINT_URL": s3.endpoint},
            )
        )
        environment = ENVIRONMENT | s3.environment() | _tracking(mlflow) | {"PYTHONPATH": ""}
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "SHAN_SERVICE_TOKEN": token}
        cluster = stack.enter_context(local_cluster(0, head, environment, dashboard=True))
        for node in nodes:
            cluster.add_node(NODE_CPUS, node)
        yield Stack(folder, s3, database, mlflow, cluster, nodes, token)

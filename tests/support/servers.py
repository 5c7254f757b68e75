"""Real servers for tests, S3 (SeaweedFS) and MLflow, each on free ports and in a folder of its own."""

import json
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from infra.tracking_file import prepare_file
from tests.support import ROOT

BUCKET = "vm-test"
_PORTS = ("s3", "master", "volume", "filer", "admin")


@dataclass(frozen=True)
class S3Server:
    """A running S3 server."""

    endpoint: str
    bucket: str = BUCKET
    access_key: str = field(default_factory=lambda: secrets.token_hex(8))
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20))
    reader_key: str = field(default_factory=lambda: secrets.token_hex(8))

    def environment(self, reader: bool = False) -> dict[str, str]:
        """Returns the variables by which AWS clients find it, without the user's files. A reader may not write."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.reader_key if reader else self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


@contextmanager
def seaweed(folder: Path, host: str = "127.0.0.1") -> Iterator[S3Server]:
    """Starts a SeaweedFS server with an empty bucket and stops it after the block."""
    ports = free_ports(2 * len(_PORTS))
    server = S3Server(f"http://{host}:{ports[0]}")
    process = _start(folder, server, ports)
    try:
        _wait_for_put(server, process, folder / "weed.log")
        yield server
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


@dataclass
class MlflowServer:
    """An MLflow server that can be stopped and started again with its data."""

    folder: Path
    port: int
    host: str = "127.0.0.1"
    backend: str = ""
    """URI of its database. Empty: a SQLite file in the folder."""
    artifacts: str = ""
    """Where it stores artifacts. Empty: in the folder."""
    password: str = ""
    """Password of its user `admin`, with the configuration of the deployment. Empty: without users."""
    environment: dict[str, str] = field(default_factory=dict)
    """Further variables, such as the credentials of both."""
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def uri(self) -> str:
        """Returns its address."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Starts the server and waits until it is healthy."""
        mlflow = str(Path(sys.executable).with_name("mlflow"))
        if not self.backend:
            prepare_file(self.folder / "server.db")
        options = [f"--host={self.host}", f"--port={self.port}", "--workers=1"]
        options += [f"--backend-store-uri={self.backend or f'sqlite:///{self.folder}/server.db'}"]
        options += [f"--artifacts-destination={self.artifacts or f'{self.folder}/artifacts'}"]
        environment = {**os.environ, **self.environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        if self.password:
            options += ["--app-name=basic-auth"]
            environment |= {"MLFLOW_AUTH_CONFIG_PATH": str(self._users()), "MLFLOW_AUTH_ADMIN_PASSWORD": self.password}
            environment |= {"MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32)}
        with (self.folder / "mlflow.log").open("ab") as log:
            self.process = subprocess.Popen(
                [mlflow, "server", *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=environment,
                start_new_session=True,
            )
        _wait_for_health(self.uri, self.process, self.folder / "mlflow.log")

    def _users(self) -> Path:
        """Returns the configuration of the deployment, with this database."""
        text = (ROOT / "infra" / "deploy" / "mlflow-auth.ini").read_text()
        (deployed,) = re.findall(r"^database_uri = (.+)$", text, re.MULTILINE)
        file = self.folder / "mlflow-auth.ini"
        file.write_text(text.replace(deployed, self.backend or f"sqlite:///{self.folder}/server.db"))
        return file

    def stop(self) -> None:
        """Kills all of its processes."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


@contextmanager
def mlflow_server(folder: Path, **settings: Any) -> Iterator[MlflowServer]:
    """Starts an MLflow server with an empty registry and stops it after the block."""
    server = MlflowServer(folder, free_ports(1)[0], **settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _wait_for_health(uri: str, process: "subprocess.Popen[bytes]", log: Path, timeout_s: float = 180) -> None:
    give_up_at = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < give_up_at:
        with suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5):  # noqa: S310 - our own server
            return
        time.sleep(0.2)
    raise RuntimeError(f"mlflow did not start: {log.read_text(errors='replace')[-2000:]}")


@contextmanager
def aws_environment(values: dict[str, str]) -> Iterator[None]:
    """Replaces the AWS_* variables of this process during the block, and its cached S3 clients with them."""
    from infra.storage import s3_client

    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    _set_aws(values)
    s3_client._clients.clear()
    try:
        yield
    finally:
        _set_aws(before)
        s3_client._clients.clear()


def _set_aws(values: dict[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(values)


def _start(folder: Path, server: S3Server, ports: list[int]) -> "subprocess.Popen[bytes]":
    identities = [
        {"name": name, "credentials": [{"accessKey": key, "secretKey": server.secret_key}], "actions": actions}
        for name, key, actions in (
            ("writer", server.access_key, ["Admin", "Read", "Write", "List", "Tagging"]),
            ("reader", server.reader_key, ["Read", "List"]),
        )
    ]
    (folder / "data").mkdir(parents=True)
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    flags = [f"-dir={folder}/data", f"-s3.config={folder}/s3.json", f"-bucket={server.bucket}"]
    host = server.endpoint.removeprefix("http://").partition(":")[0]
    flags += [f"-ip={host}", f"-ip.bind={host}", "-s3.autoCreateBucket=false", "-master.telemetry=false"]
    flags += ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    for index, part in enumerate(_PORTS):
        flags += [f"-{part}.port={ports[2 * index]}", f"-{part}.port.grpc={ports[2 * index + 1]}"]
    with (folder / "weed.log").open("wb") as log:
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("weed")), "mini", *flags],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={"GOMEMLIMIT": "400MiB", "HOME": str(folder), "PATH": os.environ["PATH"]},
        )


def free_ports(count: int) -> list[int]:
    """Returns different loopback ports on which nothing listens.

    They are above those of Ray's workers, and below those that Linux gives to outgoing connections, which could take a
    port before its server does.
    """
    candidates = random.SystemRandom().sample(range(20_000, 32_000), 100 + count)
    return list(islice(filter(_is_free, candidates), count))


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _wait_for_put(server: S3Server, process: "subprocess.Popen[bytes]", log: Path, timeout_s: float = 180) -> None:
    """Waits until a PUT succeeds. The server opens its ports before it can store anything."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
    )
    give_up_at = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < give_up_at:
        with suppress(BotoCoreError, ClientError):
            client.put_object(Bucket=server.bucket, Key="ready", Body=b"x")
            client.delete_object(Bucket=server.bucket, Key="ready")
            return
        time.sleep(0.1)
    raise RuntimeError(f"weed did not start: {log.read_text(errors='replace')[-2000:]}")

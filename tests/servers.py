"""A real S3 server for tests: SeaweedFS on ports of its own, in a folder of its own."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

BUCKET = "vm-test"
_PORTS = ("s3", "master", "volume", "filer", "admin")


@dataclass(frozen=True)
class S3Server:
    """A server that took a PUT."""

    endpoint: str
    bucket: str = BUCKET
    access_key: str = field(default_factory=lambda: secrets.token_hex(8))
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20))
    reader_key: str = field(default_factory=lambda: secrets.token_hex(8))

    def environment(self, reader: bool = False) -> dict[str, str]:
        """The variables by which AWS clients find it; files of the user's are kept out. A reader may not write."""
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
def seaweed(folder: Path) -> Iterator[S3Server]:
    """A SeaweedFS server with an empty bucket; it ends with the block."""
    ports = _free_ports(2 * len(_PORTS))
    server = S3Server(f"http://127.0.0.1:{ports[0]}")
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


@contextmanager
def aws_environment(values: dict[str, str]) -> Iterator[None]:
    """AWS_* variables in place of those of this process; its S3 client is made anew for them and after them."""
    from infra import s3_client

    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    _set_aws(values)
    s3_client.forget()
    try:
        yield
    finally:
        _set_aws(before)
        s3_client.forget()


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
    flags += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.autoCreateBucket=false", "-master.telemetry=false"]
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


def _free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on; all are held until all are known, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _wait_for_put(server: S3Server, process: "subprocess.Popen[bytes]", log: Path, patience_s: float = 60) -> None:
    """Its ports open before it can store anything, so that only a PUT tells."""
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
    give_up_at = time.monotonic() + patience_s
    while process.poll() is None and time.monotonic() < give_up_at:
        with suppress(BotoCoreError, ClientError):
            client.put_object(Bucket=server.bucket, Key="ready", Body=b"x")
            client.delete_object(Bucket=server.bucket, Key="ready")
            return
        time.sleep(0.1)
    raise RuntimeError(f"weed did not start: {log.read_text(errors='replace')[-2000:]}")

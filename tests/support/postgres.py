"""A PostgreSQL server for tests: the machine's own programs, on a port and in a folder of its own, not as root."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.processes import wait_until
from tests.support.servers import free_ports

USER = "vm"


@dataclass(frozen=True)
class Postgres:
    """A server that takes connections of one user by password."""

    port: int
    log: Path
    password: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def uri(self) -> str:
        """For SQLAlchemy, without the password: libpq finds that in PGPASSWORD."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def dump(self) -> bytes:
        """All that it holds, as SQL."""
        command = [_program("pg_dump"), f"--dbname={self.uri}"]
        environment = os.environ | {"PGPASSWORD": self.password}
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout


@contextmanager
def postgres() -> Iterator[Postgres]:
    """An empty server; it ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # its socket must have a short path
    server = Postgres(free_ports(1)[0], folder / "log")
    account = "postgres" if os.geteuid() == 0 else None  # PostgreSQL does not run as root
    password = folder / "password"
    password.write_text(server.password)
    if account:
        for path in (folder, password):
            shutil.chown(path, account)
    setup = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={password}", "--no-sync", "--encoding=UTF8"]
    subprocess.run(
        [_program("initdb"), f"--pgdata={folder}/data", *setup],
        user=account,
        cwd=folder,
        capture_output=True,
        check=True,
    )
    options = ["-p", str(server.port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [_program("postgres"), "-D", f"{folder}/data", *options], user=account, cwd=folder, stdout=log, stderr=log
        )
    try:
        ready = [_program("pg_isready"), "--host=127.0.0.1", f"--port={server.port}", "--quiet"]
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, every_s=0.1)
        yield server
    finally:
        process.send_signal(signal.SIGINT)  # ends it at once, cleanly
        process.wait(30)
        shutil.rmtree(folder)


def _program(name: str) -> str:
    """Debian keeps the server's programs off the PATH."""
    found = [shutil.which(name), *map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))]
    assert any(found), f"PostgreSQL's {name} is not on this machine; install PostgreSQL"
    return next(path for path in reversed(found) if path)

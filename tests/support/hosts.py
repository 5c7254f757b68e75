"""Hosts of a cluster on one machine: network namespaces where the user may create them, else the loopback address.

In a namespace each Ray node has its own address and ports, as on a machine of its own.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """Where the processes of a node run."""

    address: str = "127.0.0.1"
    enter: tuple[str, ...] = ()
    """Prefix of a command that runs there."""


LOOPBACK = Host()


@contextmanager
def hosts(count: int) -> Iterator[tuple[str, list[Host]]]:
    """Creates hosts. Yields the address of this machine as they see it, and the hosts. Removes them after the block."""
    mark = secrets.token_hex(3)
    bridge, subnet = f"vm{mark}", f"10.{200 + int(mark[:2], 16) % 50}.{int(mark[2:4], 16)}"
    if not _namespaces_work(bridge):
        yield "127.0.0.1", [LOOPBACK] * count
        return
    names = [f"vm{mark}-{number}" for number in range(count)]
    try:
        _ip(f"link add {bridge} type bridge")
        _ip(f"addr add {subnet}.1/24 dev {bridge}")
        _ip(f"link set {bridge} up")
        for number, name in enumerate(names):
            _join(name, bridge, f"{subnet}.{10 + number}")
        yield (
            f"{subnet}.1",
            [Host(f"{subnet}.{10 + i}", ("ip", "netns", "exec", name)) for i, name in enumerate(names)],
        )
    finally:
        for name in names:
            _ip(f"netns del {name}", check=False)
        _ip(f"link del {bridge}", check=False)


def _namespaces_work(name: str) -> bool:
    """Returns whether this user may create a bridge and a namespace."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    made = _ip(f"netns add {name}", check=False) and _ip(f"link add {name} type bridge", check=False)
    _ip(f"link del {name}", check=False)
    _ip(f"netns del {name}", check=False)
    return made


def _join(name: str, bridge: str, address: str) -> None:
    """Creates a namespace whose `eth0` is connected to the bridge."""
    _ip(f"netns add {name}")
    _ip(f"link add {name} type veth peer name eth0 netns {name}")
    _ip(f"link set {name} master {bridge} up")
    _ip(f"-n {name} addr add {address}/24 dev eth0")
    _ip(f"-n {name} link set eth0 up")
    _ip(f"-n {name} link set lo up")


def _ip(arguments: str, check: bool = True) -> bool:
    return subprocess.run(["ip", *arguments.split()], capture_output=True, check=check).returncode == 0

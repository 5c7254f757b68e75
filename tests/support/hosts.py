"""Hosts of a cluster on this one machine: network namespaces where it allows them, else its loopback address.

In a namespace each Ray node has addresses and ports of its own, as on machines of its own.
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
    """Where processes of a node run."""

    address: str = "127.0.0.1"
    enter: tuple[str, ...] = ()
    """What a command begins with to run there."""


LOOPBACK = Host()


@contextmanager
def hosts(count: int) -> Iterator[tuple[str, list[Host]]]:
    """The address of this machine as its hosts see it, and the hosts; they end with the block."""
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
    """Whether this user may make a bridge and a namespace here."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    made = _ip(f"netns add {name}", check=False) and _ip(f"link add {name} type bridge", check=False)
    _ip(f"link del {name}", check=False)
    _ip(f"netns del {name}", check=False)
    return made


def _join(name: str, bridge: str, address: str) -> None:
    """A namespace whose `eth0` is one end of a cable that ends in the bridge."""
    _ip(f"netns add {name}")
    _ip(f"link add {name} type veth peer name eth0 netns {name}")
    _ip(f"link set {name} master {bridge} up")
    _ip(f"-n {name} addr add {address}/24 dev eth0")
    _ip(f"-n {name} link set eth0 up")
    _ip(f"-n {name} link set lo up")


def _ip(arguments: str, check: bool = True) -> bool:
    return subprocess.run(["ip", *arguments.split()], capture_output=True, check=check).returncode == 0

"""Ctrl-C and SIGTERM as exceptions with a message and an exit code."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from infra import signals
from infra.signals import interrupt_exit_code, keeping_sigterm, raise_on_sigterm, when_interrupted
from tests.support import ROOT

COMMAND = """
import signal
import time
from infra.signals import when_interrupted
from jobs import cli

def main():
    with when_interrupted("completed shards are kept"):
        print("ready", flush=True)
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None  # as Ray does while it waits

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
cli.run(main)
"""


@pytest.fixture
def _handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signals._TERMINATED.clear()
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_handler")
def test_sigterm_is_an_interrupt():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as `ray.init` leaves it
    raise_on_sigterm()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert interrupt_exit_code() == 143


@pytest.mark.usefixtures("_handler")
def test_sigterm_while_ray_starts_is_an_interrupt():
    def start() -> None:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))  # as `ray.init` does at its start
        with keeping_sigterm():
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        start()
    assert interrupt_exit_code() == 143


def test_messages_are_joined_from_the_inside_out_each_once():
    with pytest.raises(KeyboardInterrupt) as caught, when_interrupted("re-run it"), when_interrupted("re-run it"):
        raise KeyboardInterrupt("checkpoint x is saved")
    assert str(caught.value) == "checkpoint x is saved; re-run it"


def signalled(code: str, number: signal.Signals) -> tuple[int, str, str]:
    """Runs code, sends it a signal at its first line; returns its exit code, its further output and its errors."""
    command = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,  # closed once the signal is sent
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    assert command.stdout.readline()
    command.send_signal(number)
    said, error = command.communicate(timeout=60)
    return command.returncode, said, error


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_command_prints_one_line(number: signal.Signals, code: int):
    assert signalled(COMMAND, number) == (code, "", "interrupted; completed shards are kept\n")


AT_EXIT = """
import atexit
import sys
from jobs import cli

def close():  # as Ray ends its processes
    print("closing", flush=True)
    sys.stdin.read()  # until the signal has been sent
    print("closed", flush=True)

cli.run(lambda: atexit.register(close))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_exit_leaves_nothing_open(number: signal.Signals):
    assert signalled(AT_EXIT, number) == (0, "closed\n", "")

"""Extraction on a real S3 server while drivers, detectors and writers are killed, drivers meet and the network fails.

After every drill the job is run to its end, and every byte of the store is what an undisturbed run wrote.
"""

import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra.storage.s3 import S3Store
from tests.support.faulty_proxy import BUSY, CUT_BEFORE, CUT_BODY, LOST, FaultyProxy, faulty_proxy
from tests.support.photos import Photos
from tests.support.processes import kill, start_driver, wait_until, workers
from tests.support.servers import S3Server

pytestmark = pytest.mark.usefixtures("ray_session")

LATENCY_S = 0.05
"""Of each request, so that a writer is long enough at work to be met."""


@dataclass
class Line:
    """An extraction of 24 real photos, one to a shard, to a prefix of its own."""

    photos: Photos
    server: S3Server
    proxy: FaultyProxy
    log: Path
    prefix: str
    drivers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(self) -> "subprocess.Popen[bytes]":
        arguments = [
            f"--dataset={self.photos.dataset}",
            f"--photos={self.photos.folder}",
            f"--extract.output=s3://{self.server.bucket}/{self.prefix}",
            "--extract.detector=tests.support.tiny_detector:TinyDetector",
            '--extract.detector_settings={"seconds": 0.2}',
            "--extract.photos_per_shard=1",
            "--extract.detector_actors_min=1",
            "--extract.detector_actors_max=1",
        ]
        environment = self.server.environment() | {"AWS_ENDPOINT_URL": self.proxy.endpoint}
        self.drivers.append(start_driver(arguments, environment, self.log))
        return self.drivers[-1]

    def finish(self) -> None:
        assert self.start().wait(240) == 0, self.log.read_text()[-2000:]

    def stored(self) -> dict[str, bytes]:
        store = S3Store(self.server.bucket, self.prefix)
        return {name: store.read(name) for name in store.objects()}

    def receipts(self) -> int:
        return sum(name.endswith(".receipt.json") for name in S3Store(self.server.bucket, self.prefix).objects())


@pytest.fixture
def line(request: pytest.FixtureRequest, real_photos: Photos, s3_server: S3Server, tmp_path: Path) -> Iterator[Line]:
    with faulty_proxy(s3_server.endpoint) as proxy:
        proxy.latency_s = LATENCY_S
        drill = Line(real_photos, s3_server, proxy, tmp_path / "log", f"drills/{request.node.name}")
        yield drill
        for driver in drill.drivers:
            driver.kill()
            driver.wait()


@pytest.fixture(scope="module")
def undisturbed(
    ray_session: None, real_photos: Photos, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    with faulty_proxy(s3_server.endpoint) as proxy:
        drill = Line(real_photos, s3_server, proxy, tmp_path_factory.mktemp("drill") / "log", "drills/undisturbed")
        drill.finish()
        stored = drill.stored()
    assert sum(name.endswith(".tar") for name in stored) == real_photos.count
    return stored


def test_drivers_killed_at_any_point(line: Line, undisturbed: dict[str, bytes]):
    draw = random.Random(4)  # noqa: S311
    met = []
    for _ in range(8):
        driver, before = line.start(), line.receipts()
        wanted = before + draw.choice([0, 1, 1, 2, 3])
        wait_until(
            lambda wanted=wanted, driver=driver: line.receipts() >= wanted or driver.poll() is not None, every_s=0.05
        )
        time.sleep(draw.uniform(0, 0.4 if wanted > before else 8))
        assert kill(driver.pid), "it had finished: the drill is too short"
        driver.wait()
        met.append(line.receipts())
    assert 0 < met[-1] < line.photos.count, f"receipts at each kill: {met}"
    line.finish()
    assert line.stored() == undisturbed


def test_detectors_and_writers_killed_at_any_point(line: Line, undisturbed: dict[str, bytes]):
    draw = random.Random(5)  # noqa: S311
    kills = ["Map(Detect)", "Map(Commit)"] * 7
    draw.shuffle(kills)
    first, rounds = line.prefix, 0
    while kills:
        line.prefix = f"{first}/{rounds}"
        rounds += 1
        driver = line.start()
        while kills and driver.poll() is None:
            time.sleep(draw.uniform(0, 0.3))
            found: list[int] = []
            wait_until(
                lambda f=found, d=driver: f.extend(workers(kills[-1])) or f or d.poll() is not None, every_s=0.002
            )
            time.sleep(draw.uniform(0, 4 * LATENCY_S if "Commit" in kills[-1] else 0.3))
            if found and kill(draw.choice(found)):
                kills.pop()
        driver.wait(240)
        line.finish()  # a driver whose task died more often than it retries has ended; the next goes on
        assert line.stored() == undisturbed
    assert rounds < 6, f"{rounds} rounds for 14 kills: the drill is too short"


def test_two_drivers_at_once(line: Line, undisturbed: dict[str, bytes]):
    both = [line.start(), line.start()]
    assert [driver.wait(240) for driver in both] == [0, 0], line.log.read_text()[-2000:]
    assert line.stored() == undisturbed


def test_a_store_that_is_busy_and_a_network_that_breaks(line: Line, undisturbed: dict[str, bytes]):
    line.proxy.rates = {BUSY: 0.1, CUT_BEFORE: 0.05, LOST: 0.05, CUT_BODY: 0.05}
    driver = line.start()
    wait_until(lambda: line.receipts() > 3)
    line.proxy.always(BUSY)
    time.sleep(8)
    line.proxy.always(None)
    assert driver.wait(240) == 0, line.log.read_text()[-2000:]
    assert line.stored() == undisturbed
    assert all(line.proxy.counts[fault] for fault in line.proxy.rates), line.proxy.counts

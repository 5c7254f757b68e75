"""Extraction to a real S3 server while drivers, detectors and writers are killed, drivers meet and the network fails.

After each test the extraction is run to its end. Every byte in the store must be what an uninterrupted run wrote.
"""

import json
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra.storage.s3 import S3Store
from pipelines.features.layout import REPORT, complete_parts, complete_shards, receipt_name, shard_of_part
from tests.support.faulty_proxy import BUSY, CUT_BEFORE, CUT_BODY, LOST, FaultyProxy, faulty_proxy
from tests.support.photos import Photos
from tests.support.processes import DEADLINE_S, kill, start_driver, wait_until, workers
from tests.support.servers import S3Server

pytestmark = pytest.mark.usefixtures("ray_session")

PARTS = 6
"""Parts of a shard."""
FLAKY = {BUSY: 0.1, CUT_BEFORE: 0.05, LOST: 0.05, CUT_BODY: 0.05}
"""Fraction of the requests that meet each fault."""
LATENCY_S = 0.05
"""Delay of each request, so that a writer works long enough to be killed."""


@dataclass
class Job:
    """An extraction of 24 photos, in shards of six parts of one photo, to a prefix of its own."""

    photos: Photos
    server: S3Server
    proxy: FaultyProxy
    log: Path
    prefix: str
    drivers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(self) -> "subprocess.Popen[bytes]":
        """Starts a driver, whose requests pass the proxy."""
        arguments = [
            f"--dataset={self.photos.dataset}",
            f"--photos={self.photos.folder}",
            f"--extract.output=s3://{self.server.bucket}/{self.prefix}",
            "--extract.detector=tests.support.tiny_detector:TinyDetector",
            '--extract.detector_settings={"seconds": 0.2}',
            f"--extract.photos_per_shard={PARTS}",
            "--extract.photos_per_part=1",
            "--extract.min_detector_actors=1",
            "--extract.max_detector_actors=1",
        ]
        environment = self.server.environment() | {"AWS_ENDPOINT_URL": self.proxy.endpoint}
        self.drivers.append(start_driver(arguments, environment, self.log))
        return self.drivers[-1]

    def finish(self) -> None:
        """Runs a driver to its end."""
        assert self.start().wait(DEADLINE_S) == 0, self.log.read_text()[-2000:]

    def stored(self) -> dict[str, bytes]:
        """Returns every object of the prefix but the report of the speed, which differs between runs."""
        store = S3Store(self.server.bucket, self.prefix)
        return {name: store.read(name) for name in store.objects() if not name.endswith(REPORT)}

    def committed(self) -> int:
        """Returns the number of committed photos: those of complete shards, and of parts of the others."""
        found = {name.rpartition("/")[2]: name for name, _ in S3Store(self.server.bucket, self.prefix).scan()}
        shards = complete_shards(found)
        parts = [part for part in complete_parts(found) if shard_of_part(part) not in shards]
        store = S3Store(self.server.bucket, self.prefix)
        return len(parts) + sum(json.loads(store.read(found[receipt_name(shard)]))["count"] for shard in shards)


@pytest.fixture
def job(request: pytest.FixtureRequest, real_photos: Photos, s3_server: S3Server, tmp_path: Path) -> Iterator[Job]:
    with faulty_proxy(s3_server.endpoint) as proxy:
        proxy.latency_s = LATENCY_S
        job = Job(real_photos, s3_server, proxy, tmp_path / "log", f"faults/{request.node.name}")
        yield job
        for driver in job.drivers:
            driver.kill()
            driver.wait()


@pytest.fixture(scope="module")
def uninterrupted(
    ray_session: None, real_photos: Photos, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """Every object that an extraction without faults stores."""
    with faulty_proxy(s3_server.endpoint) as proxy:
        job = Job(real_photos, s3_server, proxy, tmp_path_factory.mktemp("log") / "log", "faults/uninterrupted")
        job.finish()
        stored = job.stored()
    assert sum(name.endswith(".tar") for name in stored) == 4
    assert not any(".part-" in name for name in stored)
    return stored


@pytest.mark.long  # the next test kills a driver, too
def test_killed_drivers(job: Job, uninterrupted: dict[str, bytes]):
    """Kills drivers before and after they have committed parts and shards."""
    draw = random.Random(4)  # noqa: S311
    committed_at_kill = list[int]()
    for more in [0, 1, 1, 2, 3, 0, 6, 3]:
        committed_at_kill.append(committed_when_killed(job, more, draw.uniform(0, 0.4 if more else 8)))
        if committed_at_kill[-1] > job.photos.count - 8:
            break  # the next driver may finish before it is killed
    assert len(committed_at_kill) > 3
    assert 0 < committed_at_kill[-1] < job.photos.count, committed_at_kill
    job.finish()
    assert job.stored() == uninterrupted


def committed_when_killed(job: Job, more: int, delay_s: float) -> int:
    """Kills a driver some time after it has committed `more` photos, and returns the number of those committed."""
    driver, before = job.start(), job.committed()
    wait_until(lambda: job.committed() >= before + more or driver.poll() is not None, every_s=0.1)
    time.sleep(delay_s)
    assert kill(driver.pid), "the driver finished before it was killed"
    driver.wait()
    return job.committed()


def test_killed_detectors_writers_and_joins(job: Job, uninterrupted: dict[str, bytes], short: bool):
    """The short form kills one of each, and a driver first, while the store is busy and the network flaky."""
    draw = random.Random(5)  # noqa: S311
    kills = ["Map(Detect)", "Map(Commit)", "join_parts"] * (1 if short else 7)
    draw.shuffle(kills)
    number, first, rounds = len(kills), job.prefix, 0
    job.prefix = f"{first}/0"
    if short:
        job.proxy.rates = FLAKY
        assert 0 < committed_when_killed(job, more=2, delay_s=0.1) < job.photos.count
    while kills:
        job.prefix = f"{first}/{rounds}"
        rounds += 1
        driver = job.start()
        while kills and driver.poll() is None:
            time.sleep(draw.uniform(0, 0.3))
            found: list[int] = []
            wait_until(
                lambda f=found, d=driver: f.extend(workers(kills[-1])) or f or d.poll() is not None, every_s=0.02
            )
            time.sleep(draw.uniform(0, 0.3 if "Detect" in kills[-1] else 4 * LATENCY_S))
            if found and kill(draw.choice(found)):
                kills.pop()
        if driver.wait(DEADLINE_S) != 0:
            job.finish()  # Ray retries a task only so often; the next driver resumes
        assert job.stored() == uninterrupted
    assert rounds < 6, f"{rounds} extractions for {number} kills: they are too short"


@pytest.mark.long  # the next test has two drivers, too
def test_two_drivers_at_once(job: Job, uninterrupted: dict[str, bytes]):
    both = [job.start(), job.start()]
    assert [driver.wait(DEADLINE_S) for driver in both] == [0, 0], job.log.read_text()[-2000:]
    assert job.stored() == uninterrupted


@pytest.mark.long
def test_a_busy_store_a_flaky_network_and_an_outage(job: Job, uninterrupted: dict[str, bytes]):
    """With two drivers at once."""
    job.proxy.rates = FLAKY
    both = [job.start(), job.start()]
    wait_until(lambda: job.committed() > 3, every_s=0.1)
    before = job.proxy.counts[BUSY]
    job.proxy.always(BUSY)
    wait_until(lambda: job.proxy.counts[BUSY] >= before + 10, every_s=0.1)  # clients back off between attempts
    job.proxy.always(None)
    assert [driver.wait(DEADLINE_S) for driver in both] == [0, 0], job.log.read_text()[-2000:]
    assert job.stored() == uninterrupted
    assert all(job.proxy.counts[fault] for fault in job.proxy.rates), job.proxy.counts

"""Load on a running search service: queries per second, latencies, failures and memory over time.

    python -m tests.benchmarks.service_load http://127.0.0.1:8000 INDEX [--clients 16] [--seconds 600]

Each client sends one sentence after another, captions of photos of the index. Memory is the sum of the proportional set
sizes of Ray's worker processes on this machine.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import requests

from infra.tracking import TrackingConfig
from pipelines.reports.tables import Table
from pipelines.search.index import SearchIndex
from pipelines.search.index_commands import load_version
from pipelines.search.index_format import read_index_document
from tests.support.services import ask

SENTENCES, CHECKED, WINDOWS = 500, 20, 10
HEADER = ["minutes", "queries/s", "median, ms", "99th percentile, ms", "longest, ms", "status: requests", "memory, GiB"]


def captions_of(index: SearchIndex) -> list[str]:
    """Returns captions of photos that are spread over the index."""
    held = index.gallery("photos")
    items = (held.item(row) for row in np.linspace(0, held.total - 1, 20 * SENTENCES).astype(int).tolist())
    return [item.captions[0] for item in items if item.captions][:SENTENCES]


def check(url: str, index: SearchIndex, sentences: Sequence[str]) -> int:
    """Returns how many of the sentences have the service's ranking as that of this process."""
    equal = 0
    for sentence in sentences:
        (expected,) = index.search_photos([sentence])
        status, found, _ = ask(f"{url}/search", {"sentence": sentence})
        assert status == 200, found
        equal += [hit["key"] for hit in found["hits"]] == [hit.key for hit in expected]
    return equal


def load(url: str, sentences: Sequence[str], clients: int, seconds: float) -> list[list[str]]:
    """Returns a row for each tenth of the time."""
    rows, window = [], seconds / WINDOWS
    for number in range(WINDOWS):
        end = time.perf_counter() + window
        with ThreadPoolExecutor(clients) as pool:
            jobs = [pool.submit(_send, url, sentences[client::clients], end) for client in range(clients)]
            sent = [request for job in jobs for request in job.result()]
        ms = 1000 * np.array([spent for _, spent in sent])
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(Counter(s for s, _ in sent).items()))
        middle, late = np.percentile(ms, (50, 99))
        rate = f"{len(sent) / window:.1f}"
        span = f"{number * window / 60:.1f} to {(number + 1) * window / 60:.1f}"
        rows.append([span, rate, f"{middle:.0f}", f"{late:.0f}", f"{ms.max():.0f}", statuses, f"{_memory():.2f}"])
    return rows


def _send(url: str, sentences: Sequence[str], end: float) -> list[tuple[int, float]]:
    """Sends one request after another on a connection until `end`. Returns the status and the seconds of each."""
    found = []
    with requests.Session() as session:
        while time.perf_counter() < end:
            start = time.perf_counter()
            query = {"sentence": sentences[len(found) % len(sentences)]}
            status = session.post(f"{url}/search", json=query, timeout=30).status_code
            found.append((status, time.perf_counter() - start))
    return found


def _memory() -> float:
    names = [(process, process.info["cmdline"]) for process in psutil.process_iter(["cmdline"])]
    workers = [process for process, words in names if words and words[0].startswith("ray::")]
    return float(sum(process.memory_full_info().pss for process in workers)) / 2**30


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.service_load", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("index")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    store, document = read_index_document(arguments.index)
    index = SearchIndex.of(store, document, load_version(document.model.uri, TrackingConfig()))
    sentences, items = captions_of(index), index.gallery("photos").total
    equal = check(arguments.url, index, sentences[:CHECKED])
    rows = load(arguments.url, sentences, arguments.clients, arguments.seconds)
    equal += check(arguments.url, index, sentences[-CHECKED:])
    title = (
        f"{items:,} photos, {arguments.clients} clients; {equal} of {2 * CHECKED} rankings equal those of one process"
    )
    print(Table(title, HEADER, rows).markdown())


if __name__ == "__main__":
    main()

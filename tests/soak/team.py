"""The work of a team, round after round: more photos, extraction, training, promotion, index, and a service of it.

A command that fails is submitted again, as its message states, until it succeeds.
"""

import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from infra.storage.open import open_store
from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.datasets.scenes.generate import generate
from tests.support.processes import DEADLINE_S, wait_until
from tests.support.services import ask
from tests.support.stack import Stack

NAME, QUERIES = "soak", ("a red circle", "a blue square on the left", "two shapes")
FIRST, ADDED, ROUNDS = 24, 4, 60
"""Training photos of the first round, those that each round adds, and the rounds for which photos exist."""
MOST_TRIES = 12
SMALL = ["--model.joint_dim=16", "--model.word_dim=16", "--train.batch_size=16", "--train.epochs=2"]
SMALL += ["--train.learning_rate=5e-3", "--train.hard_negative_warmup_epochs=1", "--train.checkpoint_every_n_steps=4"]


@dataclass
class Team:
    """What the team has done so far."""

    stack: Stack
    folder: Path
    cache: Path
    port: int
    rounds: int = 0
    tries: list[tuple[str, int, str]] = field(default_factory=list)
    """Failed tries: command, exit code, and the last line that it printed."""
    done: dict[str, int] = field(default_factory=dict)
    """Commands that succeeded."""
    features: str = ""
    index: str = ""
    photos: int = 0
    """Photos of the data set of the last round."""
    accounted: tuple[int, int] = (0, 0)
    """Photos written and rejected, as the last extraction prints them."""
    responses: dict[int, int] = field(default_factory=dict)
    """Responses of the service by status since its first result; 0 for none."""
    _service: "subprocess.Popen[str] | None" = None

    def prepare(self) -> None:
        """Renders the photos of all rounds and stores them in the bucket."""
        file = generate(ScenesConfig(train=FIRST + ADDED * ROUNDS, val=8, test=8), self.folder, lambda _: None)
        self._document = json.loads(file.read_text())
        store = open_store(self.stack.uri("photos"))
        for path in (self.folder / "photos").iterdir():
            store.put_if_absent(path.name, path.read_bytes())

    def work(self, until: float) -> None:
        """Does rounds until a time; a round that has started is finished."""
        while time.monotonic() < until and self.rounds < ROUNDS:
            self._round()
            print(f"round {self.rounds}: {self.photos} photos; {len(self.tries)} failed tries", file=sys.stderr)

    def _round(self) -> None:
        stack, sets = self.stack, open_store(self.stack.uri("sets"))
        document = self._photos()
        sets.replace("dataset.json", json.dumps(document).encode())
        dataset = [f"--dataset={stack.uri('sets/dataset.json')}", f"--photos={stack.uri('photos')}"]
        output = self._run(
            "extract", *dataset, f"--extract.output={stack.uri('features')}", "--extract.photos_per_shard=4"
        )
        self.features = _found(r"s3://\S+@[0-9a-f]{12}", output)
        written, rejected = map(int, re.findall(r"\d+", _found(r"= \d+ written \+ \d+ rejected", output)))
        self.photos, self.accounted = len(document["images"]), (written, rejected)
        runs = [f"--train.output={stack.uri('runs')}", f"--cache.folder={self.cache}", *SMALL]
        runs += [f"--train.seed={self.rounds}"]
        output = self._run("train", f"--features={self.features}", f"--name={NAME}", *runs)
        version = _found(rf"(?<={NAME} version )\d+", output)
        easy = ["--promote.confidence=0.5", "--promote.max_drop=600"]
        self._run("promote", f"--name={NAME}", f"--version={version}", f"--features={self.features}", *easy)
        model, place = f"--model=models:/{NAME}@champion", f"--index.output={stack.uri('indexes')}"
        output = self._run("index", model, f"--features={self.features.partition('@')[0]}", place)
        self.index = _found(rf"{stack.uri('indexes')}/[\w-]+", output)
        self.rounds += 1

    def _photos(self) -> dict[str, Any]:
        """Returns the data set of this round: the first photos of train, and all others."""
        train = [image for image in self._document["images"] if image["split"] == "train"]
        others = [image for image in self._document["images"] if image["split"] != "train"]
        return {**self._document, "images": [*train[: FIRST + ADDED * self.rounds], *others]}

    def _run(self, command: str, *arguments: str) -> str:
        """Submits a command until it succeeds, and returns its output. RuntimeError after MOST_TRIES tries."""
        output = ""
        for _ in range(MOST_TRIES):
            asked = ["--resume"] if "--resume to continue" in output else []
            process = self.stack.submit(command, *arguments, *asked)
            output, _ = process.communicate(timeout=2 * DEADLINE_S)
            self.stack.outputs.append(output)
            if process.returncode == 0:
                self.done[command] = self.done.get(command, 0) + 1
                return output
            last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
            self.tries.append((command, process.returncode, last))
        raise RuntimeError(f"{command} failed {MOST_TRIES} times: {self.tries[-MOST_TRIES:]}")

    def serve(self, end: threading.Event) -> None:
        """Serves the first index as soon as it exists, and searches all the time until the end."""
        head = self.stack.cluster.address.partition(":")[0]
        listen = [f"--service.host={head}", f"--service.port={self.port}", "--service.num_detectors=0"]
        while not end.wait(0.5):
            if self.index and (self._service is None or self._service.poll() is not None):
                options = [f"--index={self.index}", *listen, "--service.follow_every_s=5", "--service.cpus=0.5"]
                with (self.folder / "serve.log").open("a") as log:
                    self._service = self.stack.submit("serve", *options, output=log)
            if self._service is not None:
                status, _ = self.search(QUERIES[0])
                if self.responses or status == 200:
                    self.responses[status] = self.responses.get(status, 0) + 1

    def settle(self) -> None:
        """Does a last round without faults, and waits until the service has its index. AssertionError otherwise."""
        self._round()
        store = open_store(self.index)
        wanted = json.loads(store.read("index.json"))["index"][:12]

        def is_served() -> bool:
            status, found = self.search(QUERIES[0])
            return status == 200 and str(found["index"]).endswith(wanted)

        wait_until(is_served, every_s=1)

    def search(self, sentence: str) -> tuple[int, Any]:
        """Returns status and body of a search; status 0 without a response."""
        head = self.stack.cluster.address.partition(":")[0]
        url = f"http://{head}:{self.port}/search?k=5&sentence={sentence.replace(' ', '+')}"
        try:
            status, found, _ = ask(url, Authorization=f"Bearer {self.stack.token}")
        except requests.RequestException:
            return 0, None
        return status, found

    def stop(self) -> None:
        """Ends the client of the job that serves."""
        if self._service is not None:
            self._service.terminate()
            self._service.wait(60)


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"the output of a job lacks {pattern!r}: {text[-1000:]}")
    return found[0]

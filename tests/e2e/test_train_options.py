"""Trainings with options that the quickstart does not use. The registered model must have them."""

import gzip
import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.metrics import (
    CACHE_SHARDS,
    CHECKPOINT_FAILURES,
    CHECKPOINT_SECONDS,
    CHECKPOINTS,
    MFU_RATIO,
    TRAINING_LOSS,
    TRAINING_MEMORY,
    TRAINING_STEP,
    TRAINING_STEPS,
    WAIT_RATIO,
)
from infra.storage.open import open_store
from infra.tracking import RANK_LOG, Tracking, TrackingConfig, connect
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import load_matcher
from shan_model.encoders import GruEncoder
from shan_model.hf_encoder import HuggingFaceEncoder
from tests.support import ROOT, feature_sets
from tests.support.commands import call_command
from tests.support.processes import wait_until
from tests.support.scrape import Scraped
from tests.support.servers import S3Server
from tests.support.tiny_bert import write_tiny_bert

SETTINGS = [
    f"--model.region_dim={feature_sets.FEATURE_DIM}", "--model.joint_dim=8", "--model.word_dim=8", "--train.epochs=2",
    "--train.batch_size=4", "--train.word_dropout=0.2",
]  # fmt: skip


def in_bucket(features: FeatureSet, uri: str) -> FeatureSet:
    store = open_store(uri)
    for name in features.store.objects():
        store.put_if_absent(name, features.store.read(name))
    return FeatureSet.open(uri)


@pytest.mark.long
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("data_mode", ["cache", "stream"])
def test_options_reach_the_registered_model(
    data_mode: str,
    tmp_path: Path,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """From shards in a bucket: cached ones with word vectors, streamed ones with an encoder of Hugging Face."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("mlflow"), "handlers", [])  # as where a command is the first to import it
    written = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 25))
    features = in_bucket(written, f"s3://{s3_server.bucket}/{data_mode}-training")
    more = [f"--train.data_mode={data_mode}", f"--cache.folder={tmp_path}/cache"]
    more += with_word_vectors(tmp_path) if data_mode == "cache" else with_hugging_face(tmp_path)
    arguments = [f"--features={features.uri}", "--name=options", "--log-format=json", *SETTINGS, *more]
    with Scraped() as scraped:
        before = scraped.total(TRAINING_STEPS.exported)
        code, said, log = call_command(monkeypatch, capsys, "jobs.train", *arguments)
        assert code == 0, log
        events = [json.loads(line) for line in log.splitlines()]
        require_training_metrics(scraped, data_mode, before, events)
    tracking = connect(TrackingConfig(uri=f"sqlite:///{tmp_path}/build/mlflow/mlflow.db"))
    require_events(events, tracking, data_mode)
    card = tracking.client().get_model_version("options", "1").description
    assert "## Results\n\nNot compared with a champion yet" in card
    assert re.search(r"\*\*val: \d+ photos, \d+ captions\*\*", card)
    assert re.search(r"\| epoch \d \|( [\d.]+ \([\d.]+ to [\d.]+\) \|){7}", card)
    assert "| random baseline | " in card
    assert f"feature set `{features.index.feature_set[:12]}`" in card
    assert str(tmp_path) not in card
    encoder = load_matcher(tracking, "models:/options/1", features).text_encoder
    if data_mode == "cache":
        assert isinstance(encoder, GruEncoder)
        vocabulary = encoder.vocabulary
        fixed = {word: encoder.fixed[i].tolist() for i, word in enumerate(vocabulary.words)}
        assert fixed["photo"] == [1, 0, 0, 0, 0]
        assert fixed["number"] == [0, 1, 0, 0, 0]
        assert not any(fixed["of"])
        assert "word vectors for" in said
        require_profile(tracking, tmp_path)
    else:
        assert isinstance(encoder, HuggingFaceEncoder)
        assert {path.name for path in tmp_path.glob("build/runs/options-*/epoch-*")} == {
            "epoch-002-lease-000001"
        }  # of equals the last
    splits = {"train", "val"} if data_mode == "cache" else {"val"}
    held = {f"{r.sha256}.tar" for r in features.receipts if r.split in splits}
    assert {path.name for path in (tmp_path / "cache").glob("*.tar")} == held
    stored = [path.name for path in (tmp_path / "build" / "mlflow" / "artifacts" / "models").rglob("*")]
    assert "weights.safetensors" in stored
    assert "state.safetensors" not in stored


def require_training_metrics(scraped: Scraped, data_mode: str, before: float, events: list[dict[str, Any]]) -> None:
    """Requires every metric of a training without a GPU or a failure, with the values of the one that has ended."""
    absent = {MFU_RATIO.name, CHECKPOINT_FAILURES.name}
    scraped.require("shan_training_", absent | ({CACHE_SHARDS.name} if data_mode == "stream" else set()))
    last = [found for found in events if found["event"] == "epoch"][-1]
    steps, run = last["step"], last["run"]
    wait_until(lambda: scraped.total(TRAINING_STEPS.exported) - before == steps, 30)
    wait_until(lambda: scraped.total(TRAINING_STEP.exported, run=run) == steps, 30)
    assert 0 < scraped.total(WAIT_RATIO.exported, run=run) < 1
    assert scraped.total(TRAINING_LOSS.exported, run=run) > 0
    assert scraped.total(TRAINING_MEMORY.exported, run=run, device="cpu", rank="0") > 1e7
    uploads = f"{CHECKPOINT_SECONDS.exported}_count"
    wait_until(lambda: scraped.total(uploads) == scraped.total(CHECKPOINTS.exported) >= 2, 30)


def require_events(events: list[dict[str, Any]], tracking: Tracking, data_mode: str) -> None:
    """Requires the events of a training in its log, and those of each rank in its file."""
    names = [found["event"] for found in events]
    assert (names[0], names[-1], events[-1]["exit_code"]) == ("job_started", "job_finished", 0)
    assert {"progress", "rank_started", "steps", "epoch", "checkpoint_saved"} <= set(names)
    documented = documented_fields()
    assert [found for found in events if not documented.get(found["event"], set()) <= found.keys()] == []
    if data_mode == "cache":
        assert "profile_logged" in names
    epochs = [found for found in events if found["event"] == "epoch"]
    assert [(found["epoch"], found["rank"], found["job"]) for found in epochs] == [(1, 0, "train"), (2, 0, "train")]
    (version,) = tracking.client().search_model_versions("name='options'")
    assert {found["run"] for found in epochs} == {version.run_id}
    tags = tracking.client().get_run(str(version.run_id)).data.tags
    ranks = 2 if data_mode == "cache" else 1
    assert [name for name in sorted(tags) if name.startswith(RANK_LOG)] == [f"{RANK_LOG}{n}" for n in range(ranks)]
    for rank in range(ranks):
        lines = Path(tags[f"{RANK_LOG}{rank}"].partition(":")[2]).read_text(encoding="utf-8").splitlines()
        (started,) = [found for found in map(json.loads, lines) if found.get("event") == "rank_started"]
        assert (started["rank"], started["run"]) == (rank, version.run_id)


def documented_fields() -> dict[str, set[str]]:
    """Returns the fields of each event of a run, as docs/debugging.md lists them."""
    section = (ROOT / "docs/debugging.md").read_text(encoding="utf-8").partition("## Events for machines")[2]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    fields = {
        event: set(re.findall("`(.*?)`", cell)) for events, cell in rows for event in re.findall("`(.*?)`", events)
    }
    found = {event: listed for event, listed in fields.items() if "run" in listed}
    assert {"steps", "epoch", "plateau", "rank_failed", "workers_restart", "checkpoint_saved"} <= found.keys()
    assert [event for event in found if "step" not in found[event]] == ["shards_downloaded"]
    return found


def require_profile(tracking: Tracking, folder: Path) -> None:
    """Requires the trace and the table of operators of the two steps after the warm-up among the run's artifacts."""
    (version,) = tracking.client().search_model_versions("name='options'")
    names = [file.path for file in tracking.client().list_artifacts(str(version.run_id), "profile")]
    assert names == ["profile/operators-from-step-000006.txt", "profile/trace-from-step-000006.json.gz"]
    table, trace = (
        Path(tracking.client().download_artifacts(str(version.run_id), name, str(folder))) for name in names
    )
    with gzip.open(trace, "rt", encoding="utf-8") as file:
        operators = {found["name"] for found in json.load(file)["traceEvents"] if found.get("cat") == "cpu_op"}
    assert {"aten::addmm", "autograd::engine::evaluate_function: AddmmBackward0"} & operators
    rows = [line.split()[0] for line in table.read_text(encoding="utf-8").splitlines() if "%" in line][1:]
    assert len(rows) == 10
    assert {row for row in rows if row.startswith("aten::")} <= operators


def with_word_vectors(folder: Path) -> list[str]:
    words = np.array(["photo", "number", "elsewhere"])
    np.savez(folder / "words.npz", words=words, vectors=np.eye(3, 5, dtype=np.float32))
    more = [
        f"--train.word_vectors={folder}/words.npz",
        "--train.precision=bf16",
        "--train.gradient_accumulation_steps=2",
    ]
    return [*more, "--train.lr_schedule=cosine", "--train.warmup_steps=3", "--train.profile_steps=2"]


def with_hugging_face(folder: Path) -> list[str]:
    """Nothing gets better by such steps, so training ends after the second of 9 epochs."""
    write_tiny_bert(folder / "bert")
    more = ["--model.text_encoder=hf", f"--model.hf_model={folder}/bert", "--train.freeze_text_encoder=true"]
    return [
        *more,
        "--train.num_workers=1",
        "--train.epochs=9",
        "--train.early_stopping_patience=1",
        "--train.learning_rate=1e-12",
    ]

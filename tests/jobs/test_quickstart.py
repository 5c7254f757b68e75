"""The command `jobs.quickstart` refuses what a stage would refuse, before it writes anything."""

from pathlib import Path

import pytest

from infra.registry import CHAMPION
from infra.tracking import Tracking
from tests.jobs.conftest import UserErrorOf


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--dataset=../good.json", "--photos=../nowhere"], "../nowhere: no such photo folder; give the folder"),
        (
            ["--dataset=../gone.json", "--photos=../photos"],
            "1 of 7 photos of data set d do not exist, more than extract.max_rejected (0.01 of them): gone.png; give",
        ),
        (["--dataset=../none.json", "--photos=../photos"], "../none.json: no such file"),
        (
            ["--dataset=../good.json", "--photos=../photos"],
            "no photo with captions is in split 'val', which is needed up to stage promote",
        ),
        (["--photos=../photos"], "--photos has no effect without --dataset; add --dataset, or omit it"),
        (["--dataset=../good.json", "--columns=image:url"], "--columns is 'image:url'; write <role>=<column>"),
        (["--dataset=../good.json", "--photos=../photos", "--columns=image=url"], "--columns has no effect on"),
        (
            ["--dataset=../small.json", "--photos=../photos"],
            "train.batch_size is 64, but split 'train' of data set d has only 1 photos, and a batch has one caption",
        ),
        (
            ["--dataset=../small.json", "--photos=../photos", "--train.data_mode=stream"],
            "split 'train' of data set d has 2 captions, too few to stream with train.batch_size=64",
        ),
        (["--scenes.train=8"], "train.batch_size is 64, but scenes.train=8 has only 8 photos"),
        (
            ["--model.region_dim=512"],
            "extract.detector embedded gives features of width 2048, but model.region_dim is 512",
        ),
        (["--train.word_vectors=../none.txt"], "none.txt' cannot be read (No such file or directory)"),
        (
            ["--model.text_encoder=hf", "--model.hf_model=no/such/folder"],
            "model.hf_model 'no/such/folder' cannot be loaded (",
        ),
        (["--preset=fast"], "unknown preset 'fast'; choose one of best, coco, flickr30k, paper, quickstart"),
        (["--train.epoks=3"], "--train.epoks"),
        (["--train.epochs=many"], "train.epochs is 'many'; give a whole number"),
        (["--train.precision=fp16"], "train.precision is 'fp16'; give one of 'fp32', 'bf16'"),
        (["--extract.detector=yolo"], "extract.detector is 'yolo'; give one of bottom_up, embedded, huggingface"),
        (
            ["--extract.detector=huggingface", '--extract.detector_settings={"model": "org/name"}'],
            "model is 'org/name', which is neither a folder here nor a hub name with a revision; give a folder",
        ),
        (["--tracking.uri=http://127.0.0.1:9"], "tracking.uri http://127.0.0.1:9 is unreachable"),
        (["--tracking.uri=mlruns"], "tracking.uri mlruns is not a tracking store"),
        (["--extract.output=ftp://x/y"], "ftp:// is not supported"),
        (["--extract.output=../good.json"], "good.json' cannot be written"),
        (["--train.output=../good.json"], "good.json' cannot be written"),
        (["--cluster.address=127.0.0.1:9"], "cluster.address 127.0.0.1:9 is unreachable"),
    ],
)
def test_the_quickstart_refuses_bad_input(data: Path, user_error: UserErrorOf, argv: list[str], said: str):
    assert said in user_error("jobs.quickstart", *argv)
    assert list((data / "cwd").iterdir()) == []


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"dataset": "e"}, "the registered model 'shan-d' belongs to another data set, e"),
        (
            {"dataset": "d", "fingerprint": "other"},
            "models:/shan-d/1 has no run that names its feature set; give the champion's with --champion-features",
        ),
    ],
)
def test_the_quickstart_refuses_a_model_that_is_not_comparable(
    data: Path, user_error: UserErrorOf, tracking: Tracking, tags: dict[str, str], said: str
):
    client = tracking.client()
    client.create_registered_model("shan-d")
    client.create_model_version("shan-d", "file:///x", tags=tags)
    client.set_registered_model_alias("shan-d", CHAMPION, "1")
    options = [f"--tracking.uri={tracking.uri}", "--train.batch_size=4", "--train.num_workers=1"]
    assert said in user_error("jobs.quickstart", "--dataset=../fits.json", "--photos=../photos", *options)
    assert list((data / "cwd").iterdir()) == []

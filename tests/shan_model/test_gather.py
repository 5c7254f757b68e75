"""Tests of the gathered loss: two gloo workers must give the loss and gradients of one."""

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from shan_model.config import ModelConfig
from shan_model.gather import max_over_ranks, sum_over_ranks
from shan_model.model import SHAN
from shan_model.objective import RankingObjective
from shan_model.vocabulary import Vocabulary

CAPTIONS = [
    "a dog runs over the grass", "two dogs", "a child on a red swing", "the swing", "a man in a boat fishing at dawn",
    "boats", "a woman reads", "someone with a book on the grass", "snow", "a very small dog in very deep snow",
]  # fmt: skip
PHOTOS = [0, 0, 1, 1, 2, 3, 4, 5, 6, 7]
"""Captions 0 and 1 share a photo, as do 2 and 3; they are on different ranks and must not be negatives."""

CASES = {
    "hardest": {"hardest": True},
    "hardest, a one-direction variant": {"hardest": True, "variant": "t2i", "gate": "scalar"},
    "hardest, scan": {"hardest": True, "matcher": "scan-t2i"},
    "hardest, sgr": {"hardest": True, "matcher": "sgr"},
    "mean of violations, sgr": {"hardest": False, "matcher": "sgr"},
    "hardest, tern": {"hardest": True, "matcher": "tern"},
    "mean of violations": {"hardest": False},
    "uneven shares": {"hardest": True, "rows": 9},
    "photos of different numbers of regions": {"hardest": True, "ragged": True},
}


def result(case: dict, rows: list[int], distributed: bool) -> dict[str, Tensor]:
    """Returns loss and gradients of the rows of one process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    fields = {name: case[name] for name in ("variant", "gate", "matcher") if name in case}
    config = ModelConfig(region_dim=16, joint_dim=24, word_dim=8, **fields)
    objective: torch.nn.Module = RankingObjective(SHAN(config, Vocabulary.build(CAPTIONS)), margin=0.2)
    draw = torch.Generator().manual_seed(1)
    photos = [torch.randn(5 + (n % 3 if case.get("ragged") else 0), 16, generator=draw) for n in range(8)]
    if distributed:
        objective = DistributedDataParallel(objective)
    regions = [photos[PHOTOS[row]] for row in rows]
    loss = objective(regions, [CAPTIONS[row] for row in rows], torch.tensor(PHOTOS)[rows], case["hardest"])
    loss.backward()
    gradients = {name.removeprefix("module."): p.grad for name, p in objective.named_parameters()}
    return {"loss": loss.detach().clone(), **gradients}


def worker(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    for number, case in enumerate(CASES.values()):
        found = result(case, list(range(case.get("rows", 10)))[rank::2], distributed=True)
        save_file(found, Path(folder) / f"{number}-{rank}.safetensors")
    value = torch.tensor(float(3 - rank))
    totals = {"sum": sum_over_ranks(value), "max": max_over_ranks(value)}
    save_file(totals, Path(folder) / f"totals-{rank}.safetensors")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gloo")
    torch.multiprocessing.set_forkserver_preload([__name__])  # imports torch once for both
    torch.multiprocessing.start_processes(worker, (str(folder),), nprocs=2, start_method="forkserver")
    return folder


def test_every_rank_gets_the_sum_and_the_maximum(two_workers: Path):
    for rank in range(2):
        totals = load_file(two_workers / f"totals-{rank}.safetensors")
        assert (totals["sum"].item(), totals["max"].item()) == (5, 3)


@pytest.mark.parametrize("number", range(len(CASES)), ids=CASES)
def test_two_workers_give_the_loss_and_gradients_of_one(two_workers: Path, number: int):
    case = list(CASES.values())[number]
    expected = result(case, list(range(case.get("rows", 10))), distributed=False)
    ranks = [load_file(two_workers / f"{number}-{rank}.safetensors") for rank in range(2)]
    parts = torch.stack([rank["loss"] for rank in ranks])
    assert expected["loss"] > 0.1, json.dumps(case)
    torch.testing.assert_close(parts.mean(), expected["loss"], rtol=1e-5, atol=1e-5)
    for name, slope in expected.items():
        if name != "loss":
            assert slope.abs().max() > 0
            assert torch.equal(ranks[0][name], ranks[1][name])
            torch.testing.assert_close(ranks[0][name], slope, rtol=1e-5, atol=1e-5)

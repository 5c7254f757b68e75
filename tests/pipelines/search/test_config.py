"""Settings of a search index: what is refused, and what follows from them."""

import math

import pytest

from pipelines.search.config import IndexConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"photos_per_partition": 0}, r"index\.photos_per_partition is 0; it must be at least 1"),
        ({"num_probes": -1}, r"index\.num_probes is -1; it must be at least 1, or 0 to choose it"),
        ({"num_actors": 0}, r"index\.num_actors is 0; it must be at least 1"),
        ({"num_lists": -1}, r"index\.num_lists is -1; it must be at least 1, or 0 to choose it"),
        ({"num_lists": 4}, r"index\.num_lists is 4, but has no effect without index\.candidate_search ivf; set it"),
        (
            {"num_probes": 8, "candidate_search": "flat"},
            r"index\.num_probes is 8, but has no effect with index\.candidate_search flat; omit it",
        ),
        ({"actor_cpus": 0}, r"index\.actor_cpus is 0; it must be positive"),
        ({"actor_cpus": math.nan}, r"index\.actor_cpus is nan; it must be positive"),
        ({"actor_gpus": -0.5}, r"index\.actor_gpus is -0\.5; it must be 0, a fraction of one GPU, or"),
        ({"actor_gpus": 1.5}, r"index\.actor_gpus is 1\.5; it must be 0, a fraction of one GPU, or"),
        ({"actor_gpus": math.inf}, r"index\.actor_gpus is inf; it must be 0, a fraction of one GPU, or"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        IndexConfig(**fields)


@pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (0.25, "cuda"), (2, "cuda")])
def test_processes_with_a_gpu_encode_on_it(gpus: float, device: str):
    assert IndexConfig(actor_gpus=gpus).device == device


def test_the_galleries_to_index_follow_from_the_choice():
    wanted = {choice: IndexConfig(galleries=choice).wanted for choice in ("photos", "captions", "both")}
    assert wanted == {"photos": ("photos",), "captions": ("captions",), "both": ("photos", "captions")}

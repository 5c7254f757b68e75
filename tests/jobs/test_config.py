"""The config tree of all commands."""

import pytest

from infra.cluster import ClusterConfig
from jobs.config import Config
from pipelines.extraction.config import ExtractConfig
from pipelines.training.config import TrainConfig


def test_cpus_are_checked_for_the_sections_of_the_command_only():
    one_cpu = Config(cluster=ClusterConfig(local_cpus=1))
    Config(cluster=ClusterConfig(local_cpus=2)).check_cpus(["train"])
    one_cpu.check_cpus(["score"])
    with pytest.raises(ValueError, match=r"train\.num_workers needs 2 logical CPUs, but cluster\.local_cpus is 1"):
        one_cpu.check_cpus(["train"])
    Config(cluster=ClusterConfig(address="auto"), train=TrainConfig(cpus_per_worker=8)).check_cpus(["train"])


def test_an_extraction_needs_cpus_beside_its_detectors():
    one = ExtractConfig(min_detector_actors=1, max_detector_actors=1)
    Config(extract=one, cluster=ClusterConfig(local_cpus=3)).check_cpus(["extract"])
    with pytest.raises(
        ValueError, match=r"extract\.min_detector_actors needs 2\.25 .* is 2; set cluster\.local_cpus to 3"
    ):
        Config(extract=one, cluster=ClusterConfig(local_cpus=2)).check_cpus(["extract"])


def test_a_training_has_the_sections_that_it_reads():
    config = Config()
    assert vars(config.training()) == {
        name: getattr(config, name) for name in ("model", "train", "cache", "tracking", "register", "cluster")
    }


def test_fields_have_dotted_names():
    flat = Config().flat()
    assert flat["train.epochs"] == Config().train.epochs
    assert {name.partition(".")[0] for name in flat} == set(Config.__dataclass_fields__)

"""Tars made from a template: the bytes that webdataset's own writer gives."""

import io

import numpy as np
import pytest
from webdataset import TarWriter

from pipelines.shards import Sample, build_tar, canonical_json
from pipelines.tar_bytes import tar_bytes


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def by_webdataset(members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with TarWriter(buffer, mtime=0) as writer:
        for name, data in members:
            key, _, extension = name.partition(".")
            writer.write({"__key__": key, extension: data})
    return buffer.getvalue()


@pytest.mark.parametrize("names", [["a.json"], ["b.npy", "a.npy"], ["k" * 95 + ".json", "k" * 94 + ".json"], []])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 10_240, 70_000])
def test_any_sizes_and_names(names: list[str], size: int):
    data = bytes(range(256)) * (size // 256 + 1)
    members = [(name, data[:size]) for name in [*names, "long" * 40 + ".npy", "n" * 94 + "_.json"]]
    split = [(name, [content[: size // 3], memoryview(content)[size // 3 :]]) for name, content in members]
    assert tar_bytes(split) == by_webdataset(members)
    assert tar_bytes([]) == by_webdataset([])


def test_a_shard():
    draw = np.random.default_rng(0)
    samples = [
        Sample(
            f"photo_{regions}",
            draw.normal(size=(regions, 48)).astype(np.float16)[:, ::2],
            draw.normal(size=(regions, 4)).astype(np.float32),
            {"source": "ä.jpg", "captions": ["x"]},
        )
        for regions in (0, 1, 36, 100)
    ]
    wanted = [
        (f"{sample.key}.{name}", data)
        for sample in samples
        for name, data in (
            ("regions.npy", npy(np.ascontiguousarray(sample.regions_RF))),
            ("boxes.npy", npy(sample.boxes_R4)),
            ("json", canonical_json(sample.meta)),
        )
    ]
    assert build_tar(samples) == by_webdataset(wanted)

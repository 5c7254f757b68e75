"""The digest by which an import recognises its source files."""

from pathlib import Path

from pipelines.features.precomputed.source_files import sampled_digest


def test_the_sampled_digest_covers_size_ends_and_middle(tmp_path: Path):
    path = tmp_path / "f"
    data = bytearray(10 * 2**20)
    path.write_bytes(data)
    seen = {sampled_digest(path)}
    for change in (slice(0, 1), slice(5 * 2**20, 5 * 2**20 + 2**18), slice(len(data) - 1, len(data))):
        data[change] = b"\1" * (change.stop - change.start)
        path.write_bytes(data)
        seen.add(sampled_digest(path))
    path.write_bytes(data + b"\0")
    seen.add(sampled_digest(path))
    assert len(seen) == 5

"""Photos in a bucket to a feature set in a bucket by the user's commands: plan, extract, again, look, check, export."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from infra.storage.open import open_store
from pipelines.features.feature_set import FeatureSet
from tests.support import ROOT
from tests.support.photos import Photos
from tests.support.servers import S3Server


def command(module: str, *arguments: str, cwd: Path, code: int = 0) -> str:
    """What a command prints, its bars left out."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, (done.stdout + done.stderr)[-3000:]
    return done.stdout if code == 0 else done.stdout + done.stderr


def test_from_bucket_to_bucket(real_photos: Photos, s3_server: S3Server, tmp_path: Path):
    root = f"s3://{s3_server.bucket}/{tmp_path.name}"
    photos = open_store(f"{root}/photos")
    for path in real_photos.folder.iterdir():
        if path.name in real_photos.dataset.read_text():
            photos.put_if_absent(path.name, path.read_bytes())
    job = [f"--dataset={real_photos.dataset}", f"--photos={root}/photos", f"--extract.output={root}/features"]
    job.append("--extract.photos_per_shard=6")

    planned = command("jobs.extract", *job, "--plan", "--estimate.dollars_per_node_hour=2", cwd=tmp_path)
    assert re.search(r"\| shards \| photos to detect \| GB \| hours \| cost \|", planned)
    assert re.search(rf"\| \d+ \| {real_photos.count} \| .* dollars \|", planned)
    assert not any(name.endswith(".tar") for name in open_store(f"{root}/features").objects())

    first = command("jobs.extract", *job, cwd=tmp_path)
    uri = first.split()[0]
    assert f"{real_photos.count} photos planned = {real_photos.count} written + 0 rejected" in first
    assert re.search(rf"photos detected \| {real_photos.count} \| {real_photos.count} \| 1.00", first)

    again = command("jobs.extract", *job, cwd=tmp_path)
    assert "(0 written now," in again
    assert "0 detected now" in again

    assert f"{real_photos.count} photos" in command("jobs.features", "verify", uri, cwd=tmp_path)
    assert "fingerprint  embedded-" in command("jobs.features", "inspect", uri, "--page=page.html", cwd=tmp_path)
    assert (tmp_path / "page.html").read_text().count("data:image/jpeg;base64,") == 12

    bare = uri.partition("@")[0]
    stray = open_store(bare)
    stray.put_if_absent("features-train-000099-0123abcd.tar", b"left by a killed run")
    assert "features-train-000099-0123abcd.tar" in command("jobs.features", "gc", bare, "--delete", cwd=tmp_path)
    assert "features-train-000099-0123abcd.tar" not in stray.objects()

    moved, digest = open_store(f"{root}/elsewhere/{Path(bare).name}"), uri.partition("@")[2]
    for name in stray.objects():
        moved.put_if_absent(name, stray.read(name))
    assert f"{real_photos.count} photos" in command("jobs.features", "verify", f"{moved.uri}@{digest}", cwd=tmp_path)
    job[2] = f"--extract.output={root}/elsewhere"
    assert f"{moved.uri}@{digest}" in (told := command("jobs.extract", *job, cwd=tmp_path))
    assert "(0 written now," in told

    command("jobs.features", "export", uri, "npy", cwd=tmp_path)
    exported = np.load(tmp_path / "npy" / "test_ims.npy")
    split = FeatureSet.open(uri).split("test")
    assert np.array_equal(exported, split[:].astype(np.float32))

    name = next(name for name in stray.objects() if name.endswith(".tar"))
    data = bytearray(stray.read(name))
    data[5000] ^= 1
    stray.replace(name, bytes(data))
    assert name in command("jobs.features", "verify", uri, cwd=tmp_path, code=1)

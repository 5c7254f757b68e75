"""Tars as img2dataset and webdataset's own writers make them, and with the faults that tars have."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import webdataset


def img2dataset_shard(path: Path, images: Iterable[tuple[str, bytes, str]]) -> Path:
    """Writes (key, image, caption) as img2dataset does: webdataset's TarWriter, `.txt` and `.json` beside `.jpg`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, webdataset.TarWriter(file) as writer:
        for key, image, caption in images:
            meta = {"caption": caption, "url": f"http://host/{key}.jpg", "key": key, "status": "success", "exif": "{}"}
            text = json.dumps(meta, indent=4)
            writer.write({"__key__": key, "jpg": image, "txt": caption, "json": text})
    return path


def write_tar(path: Path, members: Iterable[tuple[str, bytes]], format_: int = tarfile.PAX_FORMAT) -> Path:
    """Writes members in order, whatever their names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format_) as opened:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))
    return path

"""The data set card of a feature set: README.md with the YAML header of the Hugging Face Hub."""

import re
from collections import Counter
from collections.abc import Sequence

import pyarrow.compute as pc

from infra.redaction import redact
from infra.storage.base import Store
from pipelines.datasets.manifest import SPLITS, Manifest
from pipelines.datasets.photo_sources import CONTAINERS
from pipelines.features.index import FeatureSetIndex
from pipelines.features.layout import CARD, QUARANTINE
from pipelines.reports.tables import Table

_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))
_MEMBERS = (
    ("`<key>.regions.npy`", "float16, R x {width}: features of the R regions of the photo"),
    ("`<key>.boxes.npy`", "float32, R x 4: x0 y0 x1 y1 in pixels of the upright photo"),
    ("`<key>.json`", "source, sha256, captions, width, height, classes and confidences of the regions"),
)
_USE = """\
## Licence

Photos, captions and features derived from them keep the licence of the data set, which is not recorded here: state it \
in `license` above before you share this folder. Later extractions keep that field and write the rest of this file \
again.

## Read it

```python
import json

import webdataset

tars = list(json.load(open("sizes.json")))  # in this folder
for sample in webdataset.WebDataset(tars, shardshuffle=False).decode():
    print(sample["__key__"], sample["regions.npy"].shape, sample["json"]["captions"])
```

"""
_ORIGINS = 5
"""Servers and folders that a card names."""
_UNKNOWN = "license: unknown"
_LICENSE = re.compile(r"^license:.*(?:\n(?: |- ).*)*", re.MULTILINE)
"""The field of the header: a value on its line, or a list below it."""


def stated_license(store: Store) -> str:
    """Returns the field `license` of the card in the store, as a person may have stated it; `unknown` without one."""
    try:
        text = store.read(CARD).decode(errors="replace").replace("\r\n", "\n")
    except FileNotFoundError:
        return _UNKNOWN
    header = text.removeprefix("---\n").partition("\n---\n")[0]
    found = _LICENSE.search(header) if text.startswith("---\n") else None
    return found[0] if found else _UNKNOWN


def data_card(index: FeatureSetIndex, manifest: Manifest, license_: str) -> bytes:
    """Returns the card with the field `license_`: the licence of photos and captions, which nothing else records."""
    detector = index.detector
    least, most = detector.region_range
    regions = _counted(least, "region") if least == most else f"{least} to {most} regions"
    members = [(name, text.format(width=detector.feature_dim)) for name, text in _MEMBERS]
    return "\n".join(
        [
            *_header(index, license_),
            f"# {index.dataset}: region features of {detector.name}",
            "",
            f"{regions} of {detector.feature_dim} numbers for each of {_counted(index.photos_written, 'photo')}, in "
            f"{_counted(len(index.shards), 'WebDataset tar')}.",
            "",
            "## Source",
            "",
            f"Photos from {_origins(manifest)}. {_counted(index.photos_rejected, 'photo')} could not be used; "
            f"`{QUARANTINE}` lists them with the reason.",
            "",
            Table("", ("split", "photos", "rejected", "captions", "tars"), _splits(index, manifest)).markdown(),
            "",
            "## Detector",
            "",
            f"`{detector.name}`, fingerprint `{index.fingerprint}`. Its classes and attributes, "
            f"{len(detector.class_names):,} and {len(detector.attribute_names):,}, are in `index.json`.",
            "",
            "## Schema",
            "",
            Table("", ("member of a tar", "content"), members).markdown(),
            "",
            *_USE.splitlines(),
            "## Lineage",
            "",
            f"Manifest `{index.manifest}`, feature set `{index.feature_set}`.",
            "",
        ]
    ).encode()


def _header(index: FeatureSetIndex, license_: str) -> list[str]:
    size = next((name for limit, name in _SIZES if index.photos_written < limit), "10M<n<100M")
    return [
        "---",
        f'pretty_name: "{index.dataset}"',
        license_,
        "tags: [webdataset, region-features, image-text-matching]",
        f"size_categories: [{size}]",
        "---",
        "",
    ]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _origins(manifest: Manifest) -> str:
    """Returns where the photos are: the root, and of URIs the server, bucket or container; of many the most frequent.

    Columns are read in batches, because a data set may have millions of URIs.
    """
    found = Counter[str]()
    for batch in manifest.table.select(["source"]).to_batches(max_chunksize=100_000):
        uris = batch["source"].filter(pc.match_substring(batch["source"], "://"))
        inside = pc.replace_substring_regex(uris, rf"\A(?:{'|'.join(CONTAINERS)})://.*::", "")
        origin = pc.struct_field(pc.extract_regex(inside, r"\A(?P<origin>[a-z][a-z0-9+.-]*://[^/?#]*)"), "origin")
        for each in pc.value_counts(pc.coalesce(origin, inside)).to_pylist():
            found[each["values"]] += each["counts"]
        found[manifest.root] += batch.num_rows - len(uris)
    names = sorted((name for name, count in found.items() if count), key=lambda name: (-found[name], name))
    some = ", ".join(f"`{redact(name)}`" for name in names[:_ORIGINS])
    return some if len(names) <= _ORIGINS else f"{len(names):,} servers and folders, such as {some}"


def _splits(index: FeatureSetIndex, manifest: Manifest) -> Sequence[tuple[str, ...]]:
    """Returns the counts of each split; captions include those of rejected photos."""
    rows, captions = [], pc.list_value_length(manifest.table["captions"])
    for split in SPLITS:
        shards = [shard for shard in index.shards if shard.split == split]
        if shards:
            lengths = captions.filter(pc.equal(manifest.table["split"], split))
            counts = (sum(s.written for s in shards), sum(s.rejected for s in shards), pc.sum(lengths).as_py() or 0)
            rows.append((split, *(f"{count:,}" for count in (*counts, len(shards)))))
    return rows

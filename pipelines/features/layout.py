"""Names of a feature set and of every object in it. This module is their only owner.

All objects lie directly below the feature set's URI:

| object | content | module |
|---|---|---|
| `manifest-<12 hex>.parquet` | photos and captions; the hex digits are from the manifest's digest | `manifests` |
| `features-<split>-<NNNNNN>-<8 hex>.tar` | a shard | `shards` |
| `features-<split>-<NNNNNN>-<8 hex>.receipt.json` | its receipt: the shard is committed when this exists | `receipt` |
| `features-<split>-<NNNNNN>-<8 hex>.attempts.json` | photos that ended a process; deleted by the commit | extraction |
| `<shard>.part-<NNNN>-<8 hex>.*` | tar, receipt and attempts of a part, until the shard is complete | extraction |
| `index.json` | the current index, written last | `index` |
| `snapshot-<12 hex>.json` | every index so far; the hex digits are from its feature-set digest | `index` |
| `quarantine.parquet` | one row per rejected photo of the current index | `quarantine` |
| `quarantine-over-cap.parquet` | the same, of a job that failed because too many photos were rejected | `quarantine` |
| `sizes.json` | number of samples of every tar, as training code for WebDataset reads it | `publish` |
| `rehashed-photos.json` | checksums of photos that a rerun had to read again | `rehashed` |
| `README.md` | the data set card | `card` |
| `report.json` | speed of the phases of the last extraction that detected photos | extraction |
| `failure.json` | why the last extraction failed; deleted by one that completes | `infra.failures` |
| `estimate.json` | the estimate of `jobs.extract --plan`, deleted by the extraction that follows it | extraction |
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping

from infra.errors import UserError
from infra.source_tree import program
from infra.storage.base import Store
from infra.storage.open import open_store
from pipelines.datasets.decode import LONGEST_SIDE
from pipelines.datasets.manifest import SPLITS

FORMAT = "shan-features/0.2"
"""Version of the stored formats. Every index and receipt carries it."""

INDEX = "index.json"
QUARANTINE = "quarantine.parquet"
QUARANTINE_OVER_CAP = "quarantine-over-cap.parquet"
SIZES = "sizes.json"
REHASHED = "rehashed-photos.json"
ESTIMATE = "estimate.json"
REPORT = "report.json"
CARD = "README.md"

SHARD_NAME = re.compile(rf"features-(?:{'|'.join(SPLITS)})-\d{{6,}}-[0-9a-f]{{8}}")
PART_NAME = re.compile(rf"({SHARD_NAME.pattern})\.part-(\d{{4,}})-[0-9a-f]{{8}}")
_EITHER_NAME = rf"{SHARD_NAME.pattern}(?:\.part-\d{{4,}}-[0-9a-f]{{8}})?"
KINDS = {
    "snapshot": re.compile(r"snapshot-[0-9a-f]{12}\.json"),
    "receipt": re.compile(rf"{_EITHER_NAME}\.receipt\.json"),
    "tar": re.compile(rf"{_EITHER_NAME}\.tar"),
    "attempts": re.compile(rf"{_EITHER_NAME}\.attempts\.json"),
    "manifest": re.compile(r"manifest-[0-9a-f]{12}\.parquet"),
}
"""Objects of which a feature set can have many, in the order in which they may be deleted: a snapshot before what it
refers to, and a receipt before its tar.
"""
_SNAPSHOT_URI = re.compile(r"(.+)@([0-9a-f]{12})")


def tar_name(shard: str) -> str:
    """Returns the object name of a shard's tar."""
    return f"{shard}.tar"


def receipt_name(shard: str) -> str:
    """Returns the object name of a shard's receipt."""
    return f"{shard}.receipt.json"


def attempts_name(shard: str) -> str:
    """Returns the object name of a shard's notes of attempts."""
    return f"{shard}.attempts.json"


def manifest_name(digest: str) -> str:
    """Returns the object name of the manifest with this digest."""
    return f"manifest-{digest[:12]}.parquet"


def snapshot_name(digest: str) -> str:
    """Returns the object name of the snapshot with this feature-set digest (at least its first 12 hex digits)."""
    return f"snapshot-{digest[:12]}.json"


def kind_of(name: str) -> str | None:
    """Returns the key of KINDS that an object's name belongs to, or None."""
    return next((kind for kind, pattern in KINDS.items() if pattern.fullmatch(name)), None)


def complete_shards(names: Iterable[str]) -> list[str]:
    """Returns the shards among object names that have both a tar and a receipt, in the order of their tars."""
    return _complete(names, SHARD_NAME)


def complete_parts(names: Iterable[str]) -> list[str]:
    """Returns the parts of shards among object names that have both a tar and a receipt, in the order of their tars."""
    return _complete(names, PART_NAME)


def shard_of_part(name: str) -> str | None:
    """Returns the shard that a part belongs to; None for a name that is not a part's."""
    match = PART_NAME.fullmatch(name)
    return match[1] if match else None


def part_number(name: str) -> int:
    """Returns the number of a part within its shard."""
    return int(name.rpartition(".part-")[2].partition("-")[0])


def _complete(names: Iterable[str], pattern: re.Pattern[str]) -> list[str]:
    listed = dict.fromkeys(names)
    tars = [name.removesuffix(".tar") for name in listed if name.endswith(".tar")]
    return [shard for shard in tars if pattern.fullmatch(shard) and receipt_name(shard) in listed]


def resolve_uri(uri: str) -> tuple[Store, str]:
    """Returns the store of a feature set's URI and the object name of the index that the URI refers to.

    `<uri>@<12 hex>` refers to the snapshot with that digest, any other URI to the current index.
    """
    match = _SNAPSHOT_URI.fullmatch(uri)
    return (open_store(match[1]), snapshot_name(match[2])) if match else (open_store(uri), INDEX)


def is_pinned(uri: str) -> bool:
    """Returns whether a feature set's URI is `<uri>@<12 hex>`."""
    return _SNAPSHOT_URI.fullmatch(uri) is not None


def open_all_snapshots(uri: str) -> Store:
    """Returns the store of a feature set or index, to find its orphaned objects. Raises UserError for one snapshot."""
    if is_pinned(uri):
        raise UserError(f"{uri} is one snapshot, but gc considers all of them; omit '@{uri.rpartition('@')[2]}'")
    return open_store(uri)


def snapshot_digests(names: Iterable[str]) -> list[str]:
    """Returns the first 12 hex digits of each snapshot among object names."""
    return [name[len("snapshot-") : -len(".json")] for name in names if kind_of(name) == "snapshot"]


def nothing_at(uri: str, missing: str, command: str) -> str:
    """Returns the error for a URI whose object of `resolve_uri` is `missing`; `command` makes it."""
    _, at, digest = uri.rpartition("@")
    if is_pinned(uri):
        return (
            f"{uri}: no snapshot {digest} here; omit '@{digest}' for the current state, or take the digits of a "
            "snapshot-<12 hex>.json there"
        )
    hint = ", whose snapshots are URI@<12 hex>" if at and "/" not in digest else ""
    return f"{uri}: {missing}; run `{program(command)}` to its end, or check the URI{hint}"


def shard_name(split: str, number: int, plan_digest: str, contents: Mapping[str, str] | None = None) -> str:
    """Returns `features-<split>-<NNNNNN>-<8 hex>`, where the hex digits hash what the shard contains.

    `plan_digest` covers keys, sources and captions (`shard_plan.plan_digest`). `contents` (key to sha256 of the photo)
    is given only where the plain name is taken by a shard of other photo contents.
    """
    text = json.dumps([plan_digest, dict(sorted((contents or {}).items()))])
    return f"features-{split}-{number:06d}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def part_name(shard: str, number: int, plan_digest: str) -> str:
    """Returns `<shard>.part-<NNNN>-<8 hex>`; `plan_digest` is that of the part's photos."""
    return f"{shard}.part-{number:04d}-{plan_digest[:8]}"


def renamed(name: str, plan_digest: str, contents: Mapping[str, str]) -> str:
    """Returns the name of a shard or part with these contents, where the plain name is taken by other contents."""
    shard = shard_of_part(name)
    if shard is None:
        _, split, number, _ = name.split("-")
        return shard_name(split, int(number), plan_digest, contents)
    text = json.dumps([plan_digest, dict(sorted(contents.items()))])
    return part_name(shard, part_number(name), hashlib.sha256(text.encode()).hexdigest())


def feature_set_name(dataset: str, fingerprint: str, photos_per_shard: int) -> str:
    """Returns the folder of a feature set, `<dataset>-<detector>-<12 hex>`.

    The hex digits hash everything that decides the stored values: the detector's fingerprint, the shard size, the
    decoder's limit on photo size and the format version. A change of any of them therefore writes a new feature set
    beside the old one.
    """
    identity = json.dumps([FORMAT, fingerprint, photos_per_shard, LONGEST_SIDE])
    detector = fingerprint.rpartition("-")[0] or fingerprint
    return f"{dataset}-{detector}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"

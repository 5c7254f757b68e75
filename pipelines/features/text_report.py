"""What the commands print about feature sets: a new one, a verification, an inspection, a list of orphaned objects."""

import io
import json
import shlex
from collections import Counter
from collections.abc import Sequence

from infra.parquet import read_parquet
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import QUARANTINE, tar_name
from pipelines.features.orphans import OrphanedObject, Orphans
from pipelines.features.sample import sample_splits
from pipelines.features.summary import megabytes, rejection_reasons, snapshots, summarise
from pipelines.features.verify import Verification

MAX_ERRORS, MAX_ITEMS, MAX_CHARACTERS = 20, 200, 120
"""Most lines printed of integrity errors and of orphans; most characters of one value of a sample."""


def published_text(features: FeatureSet, done: str) -> str:
    """Returns the accounting of a feature set that a job has published; `done` describes the job's part in it."""
    written, rejected = features.index.photos_written, features.index.photos_rejected
    lines = [
        features.pinned_uri,
        f"  {written + rejected} photos planned = {written} written + {rejected} rejected, in "
        f"{len(features.index.shards)} shards {done}",
    ]
    if rejected:
        quarantine = read_parquet(io.BytesIO(features.store.read(QUARANTINE)))
        counts = Counter({row["values"]: row["counts"] for row in quarantine["reason"].value_counts().to_pylist()})
        lines += [f"  rejected {count} x '{reason}'" for reason, count in counts.most_common()]
        lines.append(f"  first {quarantine['source'][0]}; all of them in {features.uri}/{QUARANTINE}")
    return "\n".join(lines)


def verify_text(found: Verification) -> str:
    """Returns the integrity errors, and how much was read."""
    lines = error_lines(found.uri, found.errors)
    rate = found.size / 1e6 / max(found.seconds, 1e-9)
    read = f"{megabytes(found.size)} in {found.seconds:.1f} s ({rate:.0f} MB/s)"
    lines.append(f"  {found.shards} shards, {found.photos} photos written + {found.rejected} rejected, {read}")
    return "\n".join(lines)


def error_lines(uri: str, errors: Sequence[str]) -> list[str]:
    """Returns a line for each integrity error, as many as MAX_ERRORS, and one with their number."""
    lines = [f"integrity error: {error}" for error in errors[:MAX_ERRORS]]
    if len(errors) > MAX_ERRORS:
        lines.append(f"and {len(errors) - MAX_ERRORS} more integrity errors")
    return [*lines, f"{uri}: {f'{len(errors)} integrity errors' if errors else 'intact'}"]


def inspect_text(features: FeatureSet) -> str:
    """Returns data set, detector, lineage, splits, rejections, snapshots, how to open it, and one photo's metadata."""
    index, detector = features.index, features.index.detector
    min_regions, max_regions = detector.region_range
    regions = min_regions if min_regions == max_regions else f"{min_regions} to {max_regions}"
    lines = [
        features.pinned_uri,
        f"data set {features.dataset}, photos from {index.photo_root}",
        f"detector {detector.name} ({index.fingerprint}): {regions} regions x {detector.feature_dim} per photo",
        *(f"{name:12} {digest}" for name, digest in features.lineage.items()),
    ]
    for split in summarise(features):
        counts = f"{split.written} photos, {split.captions} captions, {split.shards} shards, {megabytes(split.size)}"
        lines.append(f"{split.split:12} {counts}; {split.rejected} rejected")
    lines += [f"rejected     {count} x '{reason}'" for reason, count in rejection_reasons(features)]
    for snapshot in snapshots(features.store):
        current = " (current)" if snapshot.current else ""
        lines.append(f"snapshot     @{snapshot.digest}: {snapshot.photos} photos in {snapshot.shards} shards{current}")
    return "\n".join([*lines, *_how_to_open(features), *_sample(features)])


def list_orphans(uri: str, items: Sequence[OrphanedObject]) -> list[str]:
    """Returns a line for each orphaned object, as many as MAX_ITEMS, and one with the sums by kind."""
    lines = [f"  {item.kind:10} {_size(item.size):>8}  {item.name}" for item in items[:MAX_ITEMS]]
    if len(items) > MAX_ITEMS:
        lines.append(f"  and {len(items) - MAX_ITEMS} more")
    kinds = Counter(item.kind for item in items)
    sums = ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) or "no orphaned objects"
    return [*lines, f"{uri}: {sums}, {megabytes(sum(item.size or 0 for item in items))}"]


def orphans_text(uri: str, orphans: Orphans) -> str:
    """Returns every orphaned object, the sums by kind, and what to consider before deleting."""
    lines = list_orphans(uri, orphans.items)
    kinds = Counter(item.kind for item in orphans.items)
    if kinds["snapshot"]:
        lines.append(
            f"warning: {kinds['snapshot']} earlier snapshots are among them; runs that were trained on `URI@<12 hex>` "
            "of one of them lose their features"
        )
    if orphans.complete_shards:
        lines.append(
            f"warning: {orphans.complete_shards} complete shards are among them, written by an unfinished or replaced "
            "extraction; to keep them, run that extraction to its end first"
        )
    if orphans.unfinished:
        lines.append(
            f"{len(orphans.unfinished)} objects are complete shards of unfinished extractions; only --unfinished "
            "deletes them"
        )
    if orphans.foreign:
        lines.append(f"{orphans.foreign} objects with other names are left alone")
    return "\n".join(lines)


def _how_to_open(features: FeatureSet) -> list[str]:
    """Returns one line of Python that reads the first tar with webdataset; webdataset reads S3 through a command."""
    tar = next((tar_name(shard.name) for shard in features.index.shards if shard.written), None)
    if tar is None:
        return []
    uri = f"{features.uri}/{tar}"
    if uri.startswith("s3://"):
        uri = f"pipe:aws s3 cp {shlex.quote(uri)} -"
    elif {"?", "#"} & set(uri):  # at which WebDataset cuts a path
        uri = f"pipe:cat {shlex.quote(uri)}"
    # In a list, WebDataset expands no braces.
    return [f"open with    next(iter(webdataset.WebDataset([{uri!r}], shardshuffle=False).decode()))"]


def _sample(features: FeatureSet) -> list[str]:
    """Returns one photo's metadata with long values cut."""
    lines = []
    for photo in sample_splits(features, 1):
        lines.append(f"sample       {photo.key} ({photo.split}), {len(photo.boxes_R4)} boxes")
        for name, value in photo.meta.items():
            text = json.dumps(value, ensure_ascii=False)
            lines.append(f"  {name}: {text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 4] + ' ...'}")
    return lines


def _size(size: int | None) -> str:
    return "-" if size is None else megabytes(size)

"""What jobs print of feature sets: one just written, a verification, one in short, a list of orphans."""

import json
from collections import Counter

from pipelines.features.feature_set import FeatureSet
from pipelines.features.orphans import Orphans
from pipelines.features.sample import chosen_photos
from pipelines.features.shards import tar_name
from pipelines.features.summary import megabytes, reasons, snapshots, summarise
from pipelines.features.verify import Verification

MOST_FAULTS, MOST_ITEMS, MOST_CHARACTERS = 20, 200, 120
"""Lines printed of faults, of orphans; characters of one value of a sample."""


def written_text(features: FeatureSet, done: str) -> str:
    """The accounting of a feature set that a job has brought to completion; `done` is what of it was done now."""
    written, rejected = sum(len(receipt.written) for receipt in features.receipts), features.rejected
    lines = [
        f"{features.uri}@{features.index['feature_set'][:12]}",
        f"  {written + len(rejected)} photos planned = {written} written + {len(rejected)} rejected, in "
        f"{len(features.receipts)} shards {done}",
    ]
    lines += [f"  rejected {count} x '{reason}'" for reason, count in reasons(features)]
    if rejected:
        lines.append(f"  first {rejected[0].source}; all of them in {features.uri}/quarantine.parquet")
    return "\n".join(lines)


def verify_text(found: Verification) -> str:
    """The faults, and how much was read."""
    lines = [f"fault: {fault}" for fault in found.faults[:MOST_FAULTS]]
    if len(found.faults) > MOST_FAULTS:
        lines.append(f"and {len(found.faults) - MOST_FAULTS} more faults")
    lines.append(f"{found.uri}: {f'{len(found.faults)} faults' if found.faults else 'whole'}")
    rate = found.size / 1e6 / max(found.seconds, 1e-9)
    read = f"{megabytes(found.size)} in {found.seconds:.1f} s ({rate:.0f} MB/s)"
    lines.append(f"  {found.shards} shards, {found.photos} photos written + {found.rejected} rejected, {read}")
    return "\n".join(lines)


def inspect_text(features: FeatureSet) -> str:
    """Data set, detector, lineage, splits, rejections, past indexes, how to open it, and one photo's record."""
    index, detector = features.index, features.index["detector"]
    fewest, most = detector["regions"]
    regions = fewest if fewest == most else f"{fewest} to {most}"
    lines = [
        f"{features.uri}@{index['feature_set'][:12]}",
        f"data set {features.dataset}, photos from {index['photos']}",
        f"detector {detector.get('name', '-')} ({index['fingerprint']}): {regions} x {detector['feature_dim']} a photo",
        *(f"{name:12} {digest}" for name, digest in features.lineage.items()),
    ]
    for split in summarise(features):
        told = f"{split.written} photos, {split.captions} captions, {split.shards} shards, {megabytes(split.size)}"
        lines.append(f"{split.split:12} {told}; {split.rejected} rejected")
    lines += [f"rejected     {count} x '{reason}'" for reason, count in reasons(features)]
    for past in snapshots(features.store):
        newest = " (newest)" if past.newest else ""
        lines.append(f"index        @{past.digest}: {past.photos} photos in {past.shards} shards{newest}")
    return "\n".join([*lines, *_how_to_open(features), *_sample(features)])


def orphans_text(uri: str, orphans: Orphans) -> str:
    """Every object, the sums by kind, and what to think of before deleting."""
    lines = [f"  {item.kind:10} {_size(item.size):>8}  {item.name}" for item in orphans.items[:MOST_ITEMS]]
    if len(orphans.items) > MOST_ITEMS:
        lines.append(f"  and {len(orphans.items) - MOST_ITEMS} more")
    kinds = Counter(item.kind for item in orphans.items)
    sums = ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) or "nothing to collect"
    lines.append(f"{uri}: {sums}, {megabytes(orphans.size)}")
    if kinds["snapshot"]:
        lines.append(
            f"warning: {kinds['snapshot']} earlier snapshots are among them; runs that were trained on "
            "`URI@<12 hex>` of one of them lose their features"
        )
    if orphans.complete_shards:
        lines.append(
            f"warning: {orphans.complete_shards} complete shards are among them, of an unfinished or replaced "
            "extraction; running it to its end first keeps them"
        )
    if orphans.work:
        lines.append(f"{len(orphans.work)} objects of extractions never finished stay; --unfinished deletes them, too")
    if orphans.foreign:
        lines.append(f"{orphans.foreign} objects with names that are not ours are left alone")
    return "\n".join(lines)


def _how_to_open(features: FeatureSet) -> list[str]:
    """One line that reads the first tar with plain webdataset; webdataset reads S3 through a command."""
    tar = next((tar_name(receipt.shard) for receipt in features.receipts if receipt.written), None)
    if tar is None:
        return []
    uri = f"{features.uri}/{tar}"
    uri = f"pipe:aws s3 cp {uri} -" if uri.startswith("s3://") else uri
    return [f'open with    next(iter(webdataset.WebDataset("{uri}", shardshuffle=False).decode()))']


def _sample(features: FeatureSet) -> list[str]:
    """One photo's record, long values cut."""
    lines = []
    for record in chosen_photos(features, 1):
        lines.append(f"sample       {record.key} ({record.split}), {len(record.boxes_R4)} boxes")
        for name, value in record.meta.items():
            text = json.dumps(value, ensure_ascii=False)
            lines.append(f"  {name}: {text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 4] + ' ...'}")
    return lines


def _size(size: int | None) -> str:
    return "-" if size is None else megabytes(size)

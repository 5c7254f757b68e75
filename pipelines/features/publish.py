"""Publishing: the last step of an extraction or import, which makes its shards a feature set."""

from collections.abc import Sequence

from infra.canonical_json import canonical_json
from infra.storage.base import put_if_changed
from infra.storage.replacement import Replacement
from pipelines.datasets.manifest import Manifest
from pipelines.features.account import Account, check_accounts
from pipelines.features.card import data_card, stated_license
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import DetectorDescription, FeatureSetIndex
from pipelines.features.layout import CARD, QUARANTINE, SIZES, snapshot_name, tar_name
from pipelines.features.quarantine import quarantine_report


def publish(
    published: Replacement,
    manifest: Manifest,
    fingerprint: str,
    detector: DetectorDescription,
    accounts: Sequence[Account],
) -> FeatureSet:
    """Writes the reports, the data set card, the snapshot and at last the index, and returns the feature set.

    `published` is the index as the job found it. Objects that already have the same bytes are not written. Raises
    UserError if another job has published meanwhile. Raises RuntimeError if the photos written and rejected are not
    exactly those that the manifest plans: then the pipeline lost or duplicated one.
    """
    store = published.store
    check_accounts(accounts, manifest, store.uri)
    shards = [account.shard for account in accounts]
    index = FeatureSetIndex.build(manifest.name, manifest.digest(), fingerprint, detector, shards, manifest.root)
    published.require_unchanged(index.to_json())  # before the reports, which belong to the index
    sizes = {tar_name(shard.name): shard.written for shard in index.shards}
    put_if_changed(store, QUARANTINE, quarantine_report(accounts))
    put_if_changed(store, SIZES, canonical_json(sizes))
    put_if_changed(store, CARD, data_card(index, manifest, stated_license(store)))
    put_if_changed(store, snapshot_name(index.feature_set), index.to_json())
    published.write(index.to_json())
    return FeatureSet(store, index)

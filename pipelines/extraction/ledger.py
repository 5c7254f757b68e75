"""The accounts of a running extraction: of complete shards, and of the complete parts of the others."""

from collections.abc import Iterable

from infra.storage.base import Store
from pipelines.extraction.phase_times import PhaseTimes
from pipelines.extraction.ray_graph import Committed
from pipelines.extraction.reconcile import FeatureSetPlan
from pipelines.features.account import Account
from pipelines.features.layout import shard_of_part
from pipelines.features.quarantine import check_max_rejected, exceeds_cap


class Ledger:
    """Starts with what was complete before, and adds what is committed."""

    def __init__(self, plan: FeatureSetPlan) -> None:
        self.accounts = dict(plan.complete)
        """By planned name."""
        self.detected = 0
        """Photos that went through the detector and are in what was added."""
        self.times = PhaseTimes()
        self._parts = {task.name: list(task.done.values()) for task in plan.missing if task.done}
        self.rejected = sum(len(account.rejected) for account in self.all())
        """Rejected photos, those of earlier runs included."""

    def all(self) -> Iterable[Account]:
        """Every account."""
        yield from self.accounts.values()
        for parts in self._parts.values():
            yield from parts

    def photo_count(self) -> int:
        """Photos of all accounts."""
        return sum(len(account.keys) for account in self.all())

    def add(self, done: Committed) -> int:
        """Adds what was committed. Returns the number of photos that were not accounted for before."""
        account = Account.of(done.receipt)
        self.detected += done.detected
        if done.times:
            self.times.add(done.times, done.detected)
        if shard_of_part(done.receipt.shard):
            self._parts.setdefault(done.shard, []).append(account)
        else:
            self.accounts[done.shard] = account
            if self._parts.pop(done.shard, None) is not None:
                return 0
        self.rejected += len(account.rejected)
        return len(account.keys)

    def check_max_rejected(self, store: Store, planned: int, cap: float) -> None:
        """Raises UserError if too many photos are rejected."""
        if exceeds_cap(self.rejected, planned, cap):
            check_max_rejected(store, list(self.all()), planned, cap)

"""The result of tracing a lineage: the objects of the chain and the checks of each, as text and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from infra.errors import CorruptDataError, StorageError, UserError

State = Literal["ok", "broken", "not checked"]
"""`not checked`: what the check needs cannot be reached from here, or does not exist for such an object."""


@dataclass(frozen=True)
class Check:
    """One check of an object, or of its link to another one."""

    state: State
    finding: str


@dataclass(frozen=True)
class Node:
    """One object of the chain."""

    kind: str
    name: str
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Lineage:
    """The chain of `uri`: manifest, detector, feature set, runs, versions."""

    uri: str
    nodes: tuple[Node, ...]

    def count(self, state: State) -> int:
        """Returns the number of checks with a state."""
        return sum(check.state == state for node in self.nodes for check in node.checks)

    @property
    def is_broken(self) -> bool:
        """Whether a link is broken."""
        return self.count("broken") > 0

    def text(self) -> str:
        """Returns the chain, one line for each object and for each of its checks, and a last line that counts."""
        lines = []
        for node in self.nodes:
            lines.append(f"{node.kind:13}{node.name}")
            lines += [f"  {check.state:13}{check.finding}" for check in node.checks]
        counts = [f"{count} {state}" for state in ("ok", "broken", "not checked") if (count := self.count(state))]
        return "\n".join([*lines, f"lineage of {self.uri}: {', '.join(counts)}"])

    def document(self) -> dict[str, Any]:
        """Returns a JSON value: `uri`, `broken` and `objects` with kind, name and checks."""
        return {"uri": self.uri, "broken": self.is_broken, "objects": [asdict(node) for node in self.nodes]}


def unreadable(error: UserError | StorageError) -> Check:
    """Returns `broken` for an object that is corrupt or lost, and `not checked` for a store that fails or refuses."""
    if isinstance(error, CorruptDataError):
        return Check("broken", str(error))
    return Check("not checked", f"it cannot be read ({error})")


def agreement(found: Mapping[str, str], expected: Mapping[str, str], holder: str, other: str) -> Check:
    """Compares what `holder` records with what `other` has, by the names of `expected`."""
    wrong = [
        f"{name} of {holder} is {found.get(name, 'missing')}, but {other} has {value}"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    if wrong:
        return Check("broken", "; ".join(wrong))
    return Check("ok", f"{', '.join(expected)} equal those of {other}")

"""The search indexes below a root as a table, for `jobs.status`."""

from collections import defaultdict
from collections.abc import Mapping

from infra.errors import StorageError, UserError
from infra.storage.base import ObjectInfo, Store
from infra.storage.open import open_store
from pipelines.features.layout import INDEX
from pipelines.reports.tables import Table
from pipelines.search.index_format import InvalidSearchIndexError, parse_document
from pipelines.search.layout import GALLERIES, KINDS


def index_table(root: Store) -> Table:
    """Returns a row for each search index below the root, finished or not."""
    listed: dict[str, dict[str, ObjectInfo]] = defaultdict(dict)
    for name, info in root.scan():
        folder, _, rest = name.partition("/")
        if rest and "/" not in rest:
            listed[folder][rest] = info
    rows = [
        _index(root, folder, objects)
        for folder, objects in sorted(listed.items())
        if any(KINDS["partition"].fullmatch(name) for name in objects)
    ]
    header = ["index", "state", *GALLERIES, "partitions", "GB", "model"]
    return Table(f"search indexes at {root.uri}", header, rows)


def _index(root: Store, folder: str, objects: Mapping[str, ObjectInfo]) -> list[str]:
    receipts = sum(KINDS["receipt"].fullmatch(name) is not None for name in objects)
    size = f"{sum(info.size for info in objects.values()) / 1e9:.2f}"

    def without_document(state: str) -> list[str]:
        return [folder, state, *("" for _ in GALLERIES), str(receipts), size, ""]

    if INDEX not in objects:
        return without_document("not finished")
    store = open_store(f"{root.uri}/{folder}")
    try:
        document = parse_document(store.read(INDEX), f"{store.uri}/{INDEX}")
    except InvalidSearchIndexError as error:
        return without_document(f"{INDEX} is not valid: {error.reason}")
    except (UserError, StorageError) as error:  # the other indexes may be readable
        return without_document(str(error))
    missing = sum(name not in objects for name in (*document.objects(), *document.receipts()))
    state = f"{missing} objects are missing" if missing else f"finished @{document.index[:12]}"
    items = [str(document.galleries[name].items) if name in document.galleries else "0" for name in GALLERIES]
    return [folder, state, *items, str(len(document.receipts())), size, document.model.uri]

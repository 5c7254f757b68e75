"""The SQLite file of a tracking store: created once, and checked before MLflow opens it.

MLflow creates the tables in dozens of migrations. Two processes that do so at once fail ("duplicate column name"),
and one that is killed meanwhile leaves a part of the tables. A file is therefore created beside its path, under a lock,
and renamed.
"""

import errno
import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from urllib.parse import quote

from infra.errors import StorageError, UserError
from infra.paths import exists, is_dir, is_file
from infra.tracking_errors import explained

LOCK_S = 120.0
"""Seconds to wait for another process that creates the file, which takes 10 s on a busy machine."""
BUSY_S = 20.0
"""Seconds to wait for another process that writes, as MLflow does."""


def mlflow_uri(file: Path) -> str:
    """Returns the URI by which MLflow opens a file. SQLAlchemy decodes the path of a URI and cuts it at a `?`.

    For `sqlite:///`, MLflow also creates the folder of the path that is not decoded.
    """
    path = str(file)
    if not {"%", "?"} & set(path):
        return f"sqlite:///{path}"
    return "sqlite+pysqlite:///" + path.replace("%", "%25").replace("?", "%3F")


def prepare_file(file: Path) -> None:
    """Creates the database if it does not exist. Raises UserError if it cannot be written or has another format."""
    from filelock import FileLock, Timeout

    _require_regular(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if database_is_missing(file):
            with TemporaryFile(dir=file.parent):  # where no file can be made, the lock would be waited for
                pass
            with FileLock(f"{file}.lock", timeout=LOCK_S):
                if database_is_missing(file):
                    _create(file)
        with file.open("r+b"):
            if not os.access(file.parent, os.W_OK):  # SQLite writes a journal beside the file
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file.parent))
    except Timeout as error:
        raise UserError(
            f"tracking.uri sqlite:///{file}: another process has held {file}.lock for {LOCK_S:.0f} s; end it and try "
            "again"
        ) from error
    except StorageError:  # an OSError, but explained already
        raise
    except OSError as error:
        raise UserError(
            f"tracking.uri sqlite:///{file} cannot be written ({error.strerror}: {error.filename}); give a file in a "
            "folder where this user may write, or the http:// URI of an MLflow server"
        ) from error
    _check(file)


def _require_regular(file: Path) -> None:
    """Raises UserError for a device or a pipe, and for a link to a missing file, which a new file would replace."""
    if not exists(file) and file.is_symlink():
        problem = f"is a link to {file.readlink()}, which does not exist; mount its disk or remove the link"
    elif exists(file) and not (is_file(file) or is_dir(file)):
        problem = "is not a regular file; give another path"
    else:
        return
    raise UserError(f"tracking.uri sqlite:///{file} {problem}")


def database_is_missing(file: Path) -> bool:
    """Returns whether `prepare_file` would create the database."""
    return not exists(file) or (is_file(file) and file.stat().st_size == 0)


def _create(file: Path) -> None:
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow.store.db.utils"):  # they log 60 lines of migrations
        logging.getLogger(name).setLevel(logging.WARNING)
    with TemporaryDirectory(dir=file.parent, prefix=f".{file.name}-") as folder:
        new = Path(folder) / file.name
        with explained(f"sqlite:///{file}", "creating the tables of"):
            MlflowClient(tracking_uri=mlflow_uri(new)).search_experiments(max_results=1)
        new.replace(file)


def _check(file: Path) -> None:
    """Raises UserError unless the file has exactly the schema of the installed MLflow.

    MLflow itself would migrate some older files without a backup, and call a newer file out-of-date.
    """
    import mlflow
    from alembic.script import ScriptDirectory

    shown = f"tracking.uri sqlite:///{file}"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=rw", timeout=BUSY_S, uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            found = database.execute("SELECT version_num FROM alembic_version").fetchone() if tables else None
    except sqlite3.Error as error:
        fix = {
            "SQLITE_BUSY": "end the process that has locked it",
            "SQLITE_CORRUPT": "restore it from a backup",
        }.get(error.sqlite_errorname, "it is not a database of MLflow, give the path of another file")
        raise UserError(f"{shown} cannot be read ({error}); {fix}") from error
    revision = found[0] if found else ""
    migrations = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    if revision == migrations.get_current_head():
        return
    known = {script.revision for script in migrations.walk_revisions()}
    if revision and revision not in known:
        raise UserError(
            f"{shown} was written by a newer MLflow than {mlflow.__version__} (schema {revision}); "
            "install that version, or give the path of another file"
        )
    raise UserError(
        f"{shown} was written by an older MLflow than {mlflow.__version__} (schema {revision or 'unknown'}); back it "
        f"up and run `mlflow db upgrade {mlflow_uri(file)}`, or remove it to start with an empty one"
    )

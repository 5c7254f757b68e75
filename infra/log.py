"""Messages and events of a process on stderr: text for people, or one JSON object a line for machines.

A message (`log`) is shown in both formats. An event (`event`) has a name and fields that machines evaluate; in text it
is not shown, because the progress bars and the results show the same. Both pass `infra.redaction`.

Every process starts with text. `configure` sets the format of a command; processes of Ray that it starts inherit it by
environment variables (`worker_environment`), with the name of its job. Workers of Ray Train use `relayed`.
"""

import json
import logging
import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

from infra.redaction import redact

Format = Literal["text", "json"]
FORMATS: tuple[Format, ...] = ("text", "json")
FORMAT_VARIABLE, JOB_VARIABLE = "SHAN_LOG_FORMAT", "SHAN_LOG_JOB"
RECENT = 20
"""Last messages and events that a process keeps for the record of a failure."""

log = logging.getLogger("shan")
"""Messages for people: INFO for notices, WARNING and ERROR with that prefix."""
_events = logging.getLogger("shan.events")
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
_context: dict[str, Any] = {"job": os.environ[JOB_VARIABLE]} if JOB_VARIABLE in os.environ else {}


def event(name: str, message: str, **fields: Any) -> None:
    """Logs an event. Its fields may not have the names of attributes of `logging.LogRecord`, such as `name`."""
    _events.info(message, extra={"event": name, **fields})


def bind(**fields: Any) -> None:
    """Adds fields to all later messages and events of this process, such as the name of its job."""
    _context.update(fields)


def bound(field: str) -> str:
    """Returns the value of a field that was bound; an empty string without one."""
    return str(_context.get(field, ""))


@contextmanager
def binding(**fields: Any) -> Iterator[None]:
    """Adds fields as `bind` does, during the body."""
    before = dict(_context)
    bind(**fields)
    try:
        yield
    finally:
        _context.clear()
        _context.update(before)


def is_json() -> bool:
    """Returns whether this process logs JSON."""
    return os.environ.get(FORMAT_VARIABLE) == "json"


def configure(log_format: Format, job: str = "") -> None:
    """Sets the format of this process and of the processes that it starts, and the job of their messages and events.

    With JSON, warnings of Python and of other libraries are JSON, too.
    """
    os.environ.pop(JOB_VARIABLE, None)
    if log_format == "json":
        os.environ |= {FORMAT_VARIABLE: "json", **({JOB_VARIABLE: job} if job else {})}
        os.environ["MLFLOW_CONFIGURE_LOGGING"] = "false"  # otherwise its warnings are text
    elif os.environ.pop(FORMAT_VARIABLE, None):
        os.environ.pop("MLFLOW_CONFIGURE_LOGGING", None)
    root = logging.getLogger()
    if log_format == "json" and _OTHERS not in root.handlers:
        root.addHandler(_OTHERS)
    elif log_format == "text":
        root.removeHandler(_OTHERS)
    logging.captureWarnings(log_format == "json")
    _context.clear()
    _context.update({"job": job} if job else {})
    _RECENT.lines.clear()


def worker_environment() -> dict[str, str]:
    """Returns the environment variables with which processes of a cluster log as this one does."""
    return {name: os.environ[name] for name in (FORMAT_VARIABLE, JOB_VARIABLE) if name in os.environ}


def recent() -> list[str]:
    """Returns the last RECENT messages and events of this process as lines of text, the oldest first."""
    return list(_RECENT.lines)


@contextmanager
def relayed(send: Callable[[str, int, str, dict[str, Any]], object], **fields: Any) -> Iterator[dict[str, Any]]:
    """Passes what this process logs during the body to `replay` in the driver, with these fields, by `send`.

    Yields the fields, which the body may change. Those of an event itself come first.
    Also writes it to the log files that the process has, such as those of a rank of Ray Train, instead of to stderr.
    """
    files = [each for each in logging.getLogger().handlers if not isinstance(each, logging.StreamHandler)]
    before, log.handlers = log.handlers, [_Fields(fields), _Relay(send), *files]
    try:
        yield fields
    finally:
        log.handlers = before


def replay(logger: str, level: int, message: str, fields: Mapping[str, Any]) -> None:
    """Logs what another process has sent."""
    logging.getLogger(logger).log(level, message, extra=dict(fields))


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Returns the fields that a message or event was given. Those of Ray start with an underscore."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and name[0] != "_"}


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object: time, level, event, message, the fields that were bound, and its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns one line."""
        fields = _context | _fields_of(record)
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": fields.pop("event", "message"),
            "message": record.getMessage(),
            **fields,
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(loggable(document))


class TextFormatter(logging.Formatter):
    """Formats a record as its message, after the level of a warning or an error."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns one line, or several for a message that has several."""
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        return prefix + redact(record.getMessage())


class _Stderr(logging.Handler):
    """Writes lines to stderr, above progress bars. Stderr is looked up for every line, because tests replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        if not is_json() and record.name == _events.name:
            return
        try:
            line = (_JSON if is_json() else _TEXT).format(record)
            if "tqdm" in sys.modules:
                sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
            else:
                print(line, file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001 - as in every handler of `logging`: a log must not end the work
            self.handleError(record)


class _Recent(logging.Handler):
    """Keeps the last lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=RECENT)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(_TEXT.format(record))


class _Fields(logging.Handler):
    """Adds fields to records and removes credentials from them, for the handlers after it."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__()
        self._fields = fields

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args = redact(record.getMessage()), None
        vars(record).update({**self._fields, **loggable(_fields_of(record))})


class _Relay(logging.Handler):
    """Sends records to another process."""

    def __init__(self, send: Callable[[str, int, str, dict[str, Any]], object]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(record.name, record.levelno, record.getMessage(), _fields_of(record))


def loggable(value: Any) -> Any:
    """Returns a value as JSON has it, at every level: text without credentials, and as text what JSON does not have."""
    if isinstance(value, Mapping):
        return {redact(str(name)): loggable(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [loggable(each) for each in value]
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return redact(str(value))


_JSON, _TEXT = JsonFormatter(), TextFormatter()
_OTHERS, _RECENT = _Stderr(logging.WARNING), _Recent()
log.setLevel(logging.INFO)
log.propagate = False  # Ray and MLflow configure the root logger
if __name__ == "infra.log" or not log.handlers:  # a model carries a copy of this module, which shares the handlers
    log.handlers = [_Stderr(), _RECENT]

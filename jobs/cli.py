"""The parts that all commands share: config sections as options, presets, and errors that the user can fix.

Config fields get their values, in this order, from the defaults, `--preset NAME`, each `--config FILE`, and options.
"""

import gc
import os
import re
import sys
import time
import traceback
from argparse import SUPPRESS
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from textwrap import fill
from types import TracebackType
from typing import Any, NoReturn

from infra.errors import StorageError, UserError
from infra.log import FORMATS, Format, bind, bound, configure, event, is_json, log
from infra.paths import local_path
from infra.redaction import redact
from infra.signals import ignore_signals_at_exit, interrupt_exit_code, raise_on_sigterm
from infra.source_tree import command_line, program
from jobs.config import Config
from jobs.config_files import files_first, preset_names
from jobs.messages import plain_error, plain_help

AddArguments = Callable[[Any], None]
"""Adds a command's own arguments to its parser."""
NEW_OBJECTS = 10_000
"""New objects before Python searches for cycles of them. With its default, 700, these searches take a third of the time
of reading a data set or receipts of millions of photos, whose objects have no cycles."""


LOG_FORMAT = "--log-format"
"""The option of every command for the format of its messages."""


@dataclass(frozen=True)
class Subcommand:
    """A subcommand: its description, its arguments, and the function that takes them."""

    description: str
    add_arguments: AddArguments
    run: Callable[[Any], None]


def parse(
    command: str,
    description: str,
    add_arguments: AddArguments,
    sections: Sequence[str],
    argv: list[str] | None = None,
    default_preset: str | None = None,
    subcommands: Sequence[str] = (),
    unread: Callable[[Any], Collection[str]] = lambda _: (),
) -> tuple[Any, Config]:
    """Parses a command line (`argv`, or the process's own). The usage also lists the subcommands, parsed elsewhere.

    Returns the command's own arguments, and a config in which the given sections are set; the others have their
    defaults. Paths are absolute. `section_options` of the arguments are the options of sections on the command line.
    `unread` returns the sections that the command does not read with some arguments; their CPUs are not checked.
    Raises UserError for an unknown option, preset or field, and for a value out of range.
    """
    from jsonargparse import ArgumentError

    argv = sys.argv[1:] if argv is None else argv
    configure(log_format(argv), command)
    parser = _parser(command, description, add_arguments, sections, default_preset)
    if subcommands:
        parser.usage += f"\n       {program(command)} {{{','.join(subcommands)}}} [--help] ..."
    section_options = _section_options(argv)
    given = files_first(argv, sections, default_preset)
    try:
        _check_sections(section_options, parser)
        arguments = parser.instantiate(parser.parse_args(given))
        for name, value in vars(arguments).items():
            if isinstance(value, Path):
                arguments[name] = local_path(value, f"--{name}")
        arguments.section_options = section_options
        config = Config(**{name: arguments[name] for name in sections})
        config.check_cpus(set(sections) - set(unread(arguments)))
    except (ArgumentError, ValueError) as error:
        raise UserError(f"{plain_error(str(error), parser)}; see `{program(command)} --help`") from error
    bind(command=redact(command_line(command, argv)))
    event("job_started", bound("command"))
    return arguments, config


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a command's main function. A UserError or StorageError is printed as one line, with exit code 2.

    So is a PermissionError that names a path: a file or folder that this user may not read, write or enter.
    Ctrl-C and SIGTERM end it with exit codes 130 and 143, and one line that states how to continue. A defect keeps its
    traceback. The last event of a log is `job_finished`, `job_failed` or `job_interrupted`, with the exit code.
    """
    _quiet_libraries()
    gc.set_threshold(NEW_OBJECTS)
    raise_on_sigterm()
    start = time.monotonic()
    try:
        main()
    except (UserError, StorageError) as error:
        _fail(str(error), 2)
    except PermissionError as error:
        if error.filename is None:
            _fail_by_defect(error)
        _fail(f"{error.filename}: {error.strerror}; change its permissions or give another path", 2)
    except BrokenPipeError:  # the reader of the output is gone, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush succeeds
        sys.exit(141)
    except KeyboardInterrupt as interrupt:
        code, line = interrupt_exit_code(), "; ".join(filter(None, ["interrupted", str(interrupt)]))
        log.info(line, extra={"event": "job_interrupted", "exit_code": code})
        sys.exit(code)
    except SystemExit as end:
        _finish(end.code, start)
        raise
    except Exception as error:  # noqa: BLE001 - it is raised again, or logged with its traceback
        _fail_by_defect(error)
    finally:
        ignore_signals_at_exit()
    _finish(0, start)
    sys.exit(0)


def _finish(code: Any, start: float) -> None:
    """Logs the end of a command that has not failed; its exit code may state a result, such as a corrupt object."""
    if bound("command"):  # it has started its work; otherwise it has printed its help or configuration
        event("job_finished", f"exit code {code or 0}", exit_code=code or 0, seconds=round(time.monotonic() - start, 1))


def _fail(line: str, code: int) -> NoReturn:
    log.error(line, extra={"event": "job_failed", "exit_code": code})
    sys.exit(code)


def _fail_by_defect(error: Exception) -> NoReturn:
    """Raises the error, or, in a log of JSON, logs it with its traceback and exits as Python does."""
    if not is_json():
        sys.excepthook = _print_redacted
        raise error
    log.error("%s: %s", type(error).__name__, error, exc_info=error, extra={"event": "job_failed", "exit_code": 1})
    sys.exit(1)


def _print_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints a traceback as Python does, without the credentials of URIs in it."""
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


def log_format(argv: Sequence[str]) -> Format:
    """Returns the format that `--log-format` selects, before the command line is parsed: its errors have it, too."""
    given = [*takewhile(lambda argument: argument != "--", argv), ""]
    for option, value in pairwise(given):
        if option == f"{LOG_FORMAT}=json" or (option == LOG_FORMAT and value == "json"):
            return "json"
    return "text"


def add_log_format(parser: Any) -> None:
    """Adds `--log-format` to a parser."""
    help_ = "Format of messages and events on stderr: text, or a JSON object per line."
    parser.add_argument(LOG_FORMAT, choices=FORMATS, default="text", help=help_)


def _parser(
    command: str, description: str, add_arguments: AddArguments, sections: Sequence[str], default_preset: str | None
) -> Any:
    from jsonargparse import ArgumentParser, set_parsing_settings

    class Parser(ArgumentParser):
        def format_help(self) -> str:
            return redact(plain_help(str(super().format_help())))  # a default may come from the environment

        def dump(self, cfg: Any, *arguments: Any, **options: Any) -> str:
            """Leaves credentials out, and the command's own arguments, which `--config` does not accept."""
            for name in vars(cfg).keys() - set(sections):
                del cfg[name]
            self.instantiate(cfg)  # raises for a value out of range, as a run does
            return redact(str(super().dump(cfg, *arguments, **options)))

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = Parser(prog=program(command), description=description, exit_on_error=False, allow_abbrev=False)
    add_arguments(parser)
    add_log_format(parser)
    if sections:
        if presets := preset_names(sections):
            help_ = "Start from the settings of this preset."
            parser.add_argument("--preset", choices=presets, default=default_preset, help=help_)
        parser.add_argument("--config", action="config", metavar="FILE", help="YAML file of config sections.")
        printing = parser._option_string_actions["--print_config"]  # noqa: SLF001 - jsonargparse adds it
        printing.help, printing.metavar = "Print the configuration and exit.", ""
        # The usage line names the command's own options; the fields of the sections, up to 80, are listed below it.
        usage = [*parser.format_usage().split()[1:], "[--print_config]", "[--SECTION.FIELD VALUE ...]"]
        parser.usage = fill(" ".join(usage), 100, subsequent_indent=" " * 8, break_on_hyphens=False)
    for name in sections:
        parser.add_class_arguments(Config.__dataclass_fields__[name].type, name)
        # jsonargparse also adds `--model FILE` and so on, but `--model` is a model's URI in every command.
        group = parser._option_string_actions.pop(f"--{name}")  # noqa: SLF001
        group.help = SUPPRESS
    return parser


def _section_options(argv: Sequence[str]) -> list[str]:
    """Returns the options of a command line that have the form `--section.field`."""
    options = (argument.partition("=")[0] for argument in takewhile(lambda argument: argument != "--", argv))
    return [option for option in options if re.match(r"--[\w-]+\.", option)]


def _check_sections(section_options: Sequence[str], parser: Any) -> None:
    """Raises ValueError for an option such as `--index.output` where `--index` is the command's own option.

    jsonargparse would pass it to `--index` as an object of its own.
    """
    for option in section_options:
        own, _, _ = option.partition(".")
        if own in parser._option_string_actions:  # noqa: SLF001
            raise ValueError(f"{option} is unknown, because this command has no section '{own[2:]}'; omit it")


def _quiet_libraries() -> None:
    """Hides progress bars and INFO messages of MLflow; its warnings are still shown."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # MLflow sets the level of its logger on import

"""What every job's command line shares: the config tree as options, presets, user errors in one line (exit code 2)."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from infra.errors import UserError
from jobs.config import Config

PRESETS = Path(__file__).parent / "presets"

AddArguments = Callable[[Any], None]


def parse(
    job: str,
    description: str,
    add_arguments: AddArguments,
    sections: Sequence[str],
    argv: list[str] | None = None,
    preset: str | None = None,
) -> tuple[Any, Config]:
    """The job's own arguments and the config tree, of which the job offers those sections that it reads.

    `--preset NAME` (`preset` if none is given) and `--config FILE` set fields, options override them. Raises UserError
    for anything unknown or out of range.
    """
    from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog=f"python -m jobs.{job}", description=description, exit_on_error=False)
    add_arguments(parser)
    if sections:
        parser.add_argument(
            "--config", action="config", help=f"YAML file of config fields; --preset: {_preset_names()}"
        )
    for name in sections:
        parser.add_argument(f"--{name}", type=Config.__dataclass_fields__[name].type, default=getattr(Config(), name))
    given = sys.argv[1:] if argv is None else argv
    if preset is not None and not any(argument.split("=")[0] == "--preset" for argument in given):
        given = ["--preset", preset, *given]
    try:
        arguments = parser.instantiate(parser.parse_args(_inline_files(given, sections)))
        config = Config(**{name: arguments[name] for name in sections})
    except (ArgumentError, ValueError) as error:
        message = " ".join(str(error).split())
        raise UserError(f"{message}; see `python -m jobs.{job} --help`") from error
    return arguments, config


def program(command: str) -> str:
    """Returns how the user starts a command: `shan <command>`, or `python -m jobs.<command>`."""
    return f"shan {command}" if Path(sys.argv[0]).stem == "shan" else f"python -m jobs.{command}"


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a job's main function as a command: a UserError becomes one line and exit code 2."""
    _quiet_libraries()
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # as in `... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush succeeds
        sys.exit(141)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def _preset_names() -> str:
    return ", ".join(sorted(path.stem for path in PRESETS.glob("*.yaml")))


def _inline_files(argv: list[str], sections: Sequence[str]) -> list[str]:
    """`--preset NAME` and `--config FILE` as `--config` with the part of the file that this job reads."""
    result = []
    rest = iter(argv)
    for argument in rest:
        option, _, value = argument.partition("=")
        if option in ("--preset", "--config"):
            value = value or next(rest, "")
            path = PRESETS / f"{value}.yaml" if option == "--preset" else Path(value)
            if not path.is_file():
                raise UserError(f"unknown {option[2:]} '{value}'; presets are {_preset_names()}, or pass --config FILE")
            result += ["--config", _sections_of(path, sections)]
        else:
            result.append(argument)
    return result


def _sections_of(path: Path, sections: Sequence[str]) -> str:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        known = Config.__dataclass_fields__
        unknown = [name for name in document if name not in known]
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise UserError(f"{path}: not YAML of config sections ({' '.join(str(error).split())}); correct it") from error
    if unknown:
        raise UserError(f"{path}: unknown section '{unknown[0]}'; sections are {', '.join(known)}")
    odd = [name for name, fields in document.items() if not isinstance(fields, dict)]
    if odd:
        raise UserError(f"{path}: section '{odd[0]}' holds no fields; write `{odd[0]}:` and its fields below, indented")
    empty = [f"{name}.{key}" for name, fields in document.items() for key, value in fields.items() if value is None]
    if empty:
        raise UserError(f"{path}: {empty[0]} has no value; give it one or take the line out")
    return yaml.safe_dump({name: fields for name, fields in document.items() if name in sections})


def _quiet_libraries() -> None:
    """Leaves the terminal to the job's own lines; what libraries warn of still shows."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow").setLevel(logging.WARNING)

"""The parts that all commands share: config sections as options, presets, and errors that the user can fix.

Config fields get their values, in this order, from the defaults, `--preset NAME`, each `--config FILE`, and options.
"""

import os
import re
import sys
from argparse import SUPPRESS
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from textwrap import fill
from typing import Any, NoReturn

import yaml

from infra.errors import StorageError, UserError
from infra.paths import local_path
from infra.signals import ignore_signals_at_exit, interrupt_exit_code, raise_on_sigterm
from infra.source_tree import program
from jobs.config import Config

PRESETS = Path(__file__).parent / "presets"
"""Folder of the presets: YAML files of config sections."""

AddArguments = Callable[[Any], None]
"""Adds a command's own arguments to its parser."""


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
) -> tuple[Any, Config]:
    """Parses a command line (`argv`, or the process's own). The usage also lists the subcommands, parsed elsewhere.

    Returns the command's own arguments, and a config in which the given sections are set; the others have their
    defaults. Paths are absolute. `section_options` of the arguments are the options of sections on the command line.
    Raises UserError for an unknown option, preset or field, and for a value out of range.
    """
    from jsonargparse import ArgumentError

    parser = _parser(command, description, add_arguments, sections, default_preset)
    if subcommands:
        parser.usage += f"\n       {program(command)} {{{','.join(subcommands)}}} [--help] ..."
    argv = sys.argv[1:] if argv is None else argv
    section_options = _section_options(argv)
    given = _files_first(argv, sections, default_preset)
    try:
        _check_sections(section_options, parser)
        arguments = parser.instantiate(parser.parse_args(given))
        for name, value in vars(arguments).items():
            if isinstance(value, Path):
                arguments[name] = local_path(value, f"--{name}")
        arguments.section_options = section_options
        config = Config(**{name: arguments[name] for name in sections})
        config.check_cpus(sections)
    except (ArgumentError, ValueError) as error:
        raise UserError(f"{plain_error(str(error), parser)}; see `{program(command)} --help`") from error
    return arguments, config


def plain_error(message: str, parser: Any) -> str:
    """Returns a message of argparse or jsonargparse in terms of the command line: argument, value, what to give."""
    text = _plain_types(" ".join(message.split()))
    own = [action for action in parser._actions if "." not in action.dest]  # noqa: SLF001
    names = {action.dest: next(iter(action.option_strings), str(action.metavar)) for action in own}
    if value := re.fullmatch(r'Parser key "(.+?)": Expected (.+?)\. Got value: ?(.*)', text):
        wanted = re.sub(r"^a (?=text|true)", "", value[2])
        return f"{names.get(value[1], value[1])} is '{value[3]}'; give {wanted}"
    if choice := re.fullmatch(r"argument (.+?): invalid choice: (.+) \(choose from (.*)\)", text):
        return f"{choice[1]} is {choice[2]}; give one of {choice[3]}"
    if missing := re.fullmatch(r"the following arguments are required: (.*)", text):
        return " and ".join(names.get(name, name) for name in missing[1].split(", ")) + " must be given"
    if unknown := re.match(r"unrecognized arguments: (--[^\s=]+)", text):
        nearest = get_close_matches(unknown[1], parser._option_string_actions, 1, cutoff=0.8)  # noqa: SLF001
        return f"{text}; the nearest option is {nearest[0]}" if nearest else text
    text = re.sub(r"^argument (.+?): expected .*", r"\1 has no value; give one", text)
    return re.sub(r"^Group '(.+?)' does not accept option '(.*)'", r"\1 has no field '\2'; correct the name", text)


def _plain_types(text: str) -> str:
    """Replaces Python's representations of types, in messages and help, by their names."""
    names = {"int": "whole number", "float": "number", "bool": "true or false", "str": "text", "Path": "path"}
    names |= {"dict": "JSON object", "tuple": "list"}
    text = re.sub(r"a typing\.Literal\[(.*?)\]", r"one of \1", text)
    return re.sub(r"<class\s+'(?:\w+\.)*(\w+)'>", lambda match: names.get(match[1], match[1]), text)


def _plain_help(text: str) -> str:
    """Names types plainly, leaves out types that the choices state, and defaults of a command's own unset options."""
    text = re.sub(r"type:\s+Literal\[[^\]]*\],\s+|,\s+type:\s+Literal\[[^\]]*\]", "", _plain_types(text))
    entries = re.split(r"^(?=  [-A-Z])", text, flags=re.MULTILINE)
    own = re.compile(r"  (?:--[\w-]+(?![\w.-])|[A-Z])")
    return "".join(re.sub(r",?\s+\(?default:\s+null\)", _closing, e) if own.match(e) else e for e in entries)


def _closing(null: re.Match[str]) -> str:
    """Returns the rest of `(default: null)`, or of `(type: str, default: null)`."""
    return "" if "(" in null[0] else ")"


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a command's main function. A UserError or StorageError is printed as one line, with exit code 2.

    Ctrl-C and SIGTERM end it with exit codes 130 and 143, and one line that states how to continue.
    """
    _quiet_libraries()
    raise_on_sigterm()
    try:
        main()
    except (UserError, StorageError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of the output is gone, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush succeeds
        sys.exit(141)
    except KeyboardInterrupt as interrupt:
        print("; ".join(filter(None, ["interrupted", str(interrupt)])), file=sys.stderr)
        sys.exit(interrupt_exit_code())
    finally:
        ignore_signals_at_exit()
    sys.exit(0)


def _parser(
    command: str, description: str, add_arguments: AddArguments, sections: Sequence[str], default_preset: str | None
) -> Any:
    from jsonargparse import ArgumentParser, set_parsing_settings

    class Parser(ArgumentParser):
        def format_help(self) -> str:
            return _plain_help(str(super().format_help()))

        def dump(self, cfg: Any, *arguments: Any, **options: Any) -> str:
            """Leaves the command's own arguments out, so that `--config` accepts the output of `--print_config`."""
            for name in vars(cfg).keys() - set(sections):
                del cfg[name]
            return str(super().dump(cfg, *arguments, **options))

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = Parser(prog=program(command), description=description, exit_on_error=False, allow_abbrev=False)
    add_arguments(parser)
    if sections:
        if presets := _preset_names(sections):
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


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping with the same key twice, of which YAML's own loader keeps the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if names.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' occurs twice", key.start_mark)
        return super().construct_mapping(node, deep)


def _preset_names(sections: Sequence[str]) -> list[str]:
    """Returns the presets that set any of these sections: others would have no effect."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml") if _read_sections(path, sections))


def _files_first(argv: Sequence[str], sections: Sequence[str], default_preset: str | None) -> list[str]:
    """Puts the inlined presets and config files before the options, so that options override them."""
    presets, preset = _preset_names(sections), default_preset
    files, options = list[str](), list[str]()
    rest = iter(argv)
    for argument in rest:
        option, _, value = argument.partition("=")
        if argument == "--":
            options += [argument, *rest]
        elif option == "--preset" and presets:
            preset = value or next(rest, "")
        elif option == "--config" and sections:
            files.append(value or next(rest, ""))
        else:
            options.append(argument)
    if preset is not None and preset not in presets:
        raise UserError(f"--preset: unknown preset '{preset}'; choose one of {', '.join(presets)}")
    paths = [PRESETS / f"{preset}.yaml"] if preset is not None else []
    paths += [local_path(file, "--config") for file in files]
    read = [yaml.safe_dump(_read_sections(path, sections)) for path in paths]
    return [*(argument for text in read for argument in ("--config", text)), *options]


def _read_sections(path: Path, sections: Sequence[str]) -> dict[str, Any]:
    """Returns the given sections of a config file, which may also contain sections of other commands."""
    if not path.is_file():
        raise UserError(f"--config '{path}': no such file; give a YAML file of config sections")
    try:
        document = _UniqueKeys(path.read_text(encoding="utf-8-sig")).get_single_data() or {}
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: not YAML of config sections ({' '.join(str(error).split())}); fix its syntax"
        ) from error
    except OSError as error:
        raise UserError(f"--config '{path}': cannot be read ({error.strerror}); give a file that can") from error
    if not isinstance(document, dict):
        raise UserError(
            f"{path}: not YAML of config sections (it is a {type(document).__name__}); write `section:` lines"
        )
    known = Config.__dataclass_fields__
    unknown = [name for name in document if name not in known]
    if unknown:
        raise UserError(f"{path}: unknown section '{unknown[0]}'; sections are {', '.join(known)}")
    invalid = [name for name, fields in document.items() if not isinstance(fields, dict)]
    if invalid:
        raise UserError(f"{path}: section '{invalid[0]}' has no fields; indent its fields below `{invalid[0]}:`")
    empty = [f"{name}.{key}" for name, fields in document.items() for key, value in fields.items() if value is None]
    if empty:
        raise UserError(f"{path}: {empty[0]} has no value; set one or remove the line")
    return {name: fields for name, fields in document.items() if name in sections}


def _quiet_libraries() -> None:
    """Hides progress bars and INFO messages of MLflow; its warnings are still shown."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # MLflow sets the level of its logger on import

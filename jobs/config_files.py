"""Presets and config files: YAML of config sections, each field at most once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from infra.errors import UserError
from infra.paths import exists, is_file, local_path
from jobs.config import Config

PRESETS = Path(__file__).parent / "presets"
"""Folder of the presets: YAML files of config sections."""


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping with the same key twice, of which YAML's own loader keeps the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if names.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' occurs twice", key.start_mark)
        return super().construct_mapping(node, deep)


def preset_names(sections: Sequence[str]) -> list[str]:
    """Returns the presets that set any of these sections: others would have no effect."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml") if _read_sections(path, sections))


def preset_sections(preset: str, sections: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns the values of a preset for the fields of these sections that it sets."""
    return _read_sections(PRESETS / f"{preset}.yaml", sections)


def files_first(argv: Sequence[str], sections: Sequence[str], default_preset: str | None) -> list[str]:
    """Puts the inlined presets and config files before the options, so that options override them."""
    presets, preset = preset_names(sections), default_preset
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
    if not is_file(path):
        problem = "not a regular file" if exists(path) else "no such file"
        raise UserError(f"--config '{path}': {problem}; give a YAML file of config sections")
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

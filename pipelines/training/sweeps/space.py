"""Search space of a sweep: fields of the setup and the distributions of their values, as given to `--space`.

    train.learning_rate=loguniform(1e-4, 1e-2)   model.gate=choice(vector, scalar)   train.seed=grid(0, 1, 2)

`choice`, `uniform`, `loguniform` and `randint` (upper end excluded) sample a value per trial; `grid` tries every value,
in combination with those of the other grids.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import yaml

from infra.errors import UserError
from infra.source_tree import program
from pipelines.training.config import OPERATIONAL_FIELDS
from pipelines.training.identity import file_content
from pipelines.training.setup import TrainingSetup, located

SECTIONS = ("model", "train")
_ENTRY = re.compile(r"(\w+)\.(\w+)=(\w+)\((.*)\)")
_DISTRIBUTIONS = ("choice", "grid", "uniform", "loguniform", "randint")
_LIMIT = 2**62
"""Bounds of a distribution are below it: NumPy draws 64-bit integers, and computes differences of bounds."""


def parse_space(entries: Sequence[str]) -> dict[str, Any]:
    """Returns Ray Tune's search space by dotted field, with absolute paths, because trials run elsewhere.

    Raises UserError naming the invalid entry and the fix. `check_space` checks the values.
    """
    space: dict[str, Any] = {}
    for entry in entries:
        field, distribution, written = _parts(entry)
        if field in space:
            raise UserError(f"--space names {field} twice; give it once")
        space[field] = _parsed_domain(entry, field, distribution, written)
    if not space:
        raise UserError(
            "--space is empty; give at least one field, for example train.learning_rate=loguniform(1e-4, 1e-2)"
        )
    return space


def _parts(entry: str) -> tuple[str, str, str]:
    """Returns the dotted field of an entry, its distribution and the text in the parentheses."""
    match = _ENTRY.fullmatch(entry.strip())
    if match is None or match[3] not in _DISTRIBUTIONS:
        raise UserError(
            f"--space '{entry}' is not valid; write section.field=distribution(values), where distribution is one "
            f"of {', '.join(_DISTRIBUTIONS)}"
        )
    section, name, distribution, written = match.groups()
    field = f"{section}.{name}"
    if section not in SECTIONS or name not in fields_of(section):
        raise UserError(
            f"--space '{entry}': {field} is not a field of the model or train section; write one that "
            f"`{program('sweep')} --help` lists"
        )
    if field == "train.epochs":
        raise UserError(f"--space '{entry}': trials are compared at equal epochs; set --train.epochs for all trials")
    if section == "train" and name in OPERATIONAL_FIELDS:
        raise UserError(f"--space '{entry}': {field} does not affect the result; set --{field} for all trials")
    return field, distribution, written


def _parsed_domain(entry: str, field: str, distribution: str, written: str) -> Any:
    """Returns Ray Tune's domain of an entry."""
    from ray import tune

    try:
        return _domain(tune, distribution, [located(field, _number(value)) for value in yaml.safe_load(f"[{written}]")])
    except yaml.YAMLError as error:
        raise UserError(
            f"--space '{entry}': the values in the parentheses are not valid YAML "
            f"({getattr(error, 'problem', error)}); check quotes, commas and brackets"
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"--space '{entry}': {_line(error)}") from error


def check_space(space: dict[str, Any], sampled: Sequence[dict[str, Any]], setup: TrainingSetup) -> None:
    """Raises UserError for the first sample that gives no valid setup, and for a bound that gives none.

    Fields are checked together, because one may be valid only with a value of another. The values of a continuous
    distribution lie between its bounds, so each bound takes the place of a sampled value once.
    """
    bounds = [{**sampled[0], field: bound} for field, domain in space.items() for bound in _bounds(domain)]
    for values in [*sampled, *bounds]:
        try:
            with_fields(setup, values)
        except (TypeError, ValueError, UserError) as error:
            written = ", ".join(f"{field}={value}" for field, value in values.items())
            raise UserError(
                f"--space allows {written}, which is not a valid setup ({_line(error)}); change the distribution"
            ) from error


def samples(space: dict[str, Any], count: int, seed: int) -> list[dict[str, Any]]:
    """Returns `count` samples for every point of the grids. Duplicates are dropped, because they are one training."""
    rng = np.random.default_rng(seed)
    grids = {field: domain["grid_search"] for field, domain in space.items() if isinstance(domain, dict)}
    found = {}
    for point in product(*grids.values()):
        for _ in range(count):
            values = dict(zip(grids, point, strict=True))
            sample = {f: values[f] if f in grids else d.sample(random_state=rng) for f, d in space.items()}
            found[tuple(sample.values())] = sample
    return list(found.values())


def space_identity(entries: Sequence[str], space: dict[str, Any]) -> list[str]:
    """Returns the entries with the content of the files that they name in place of the paths.

    Raises UserError if a file cannot be read, or if two have the same content: their trials would be one training.
    """
    identity = []
    for entry, (field, domain) in zip(entries, space.items(), strict=True):
        is_grid = isinstance(domain, dict)
        values = domain["grid_search"] if is_grid else getattr(domain, "categories", [])
        contents = [file_content(field, value) for value in values]
        if len(set(contents)) < len(set(values)):
            raise UserError(f"--space '{entry}' names two files of the same content; name one of them")
        if contents != values:
            entry = f"{field}={'grid' if is_grid else 'choice'}({', '.join(map(str, contents))})"
        identity.append(entry)
    return identity


def fields_of(section: str) -> set[str]:
    """Returns the names of the fields of a section."""
    return {field.name for field in dataclasses.fields(TrainingSetup.__dataclass_fields__[section].type)}  # type: ignore[arg-type]


def with_fields(setup: TrainingSetup, values: dict[str, Any]) -> TrainingSetup:
    """Returns the setup with dotted fields replaced. Raises ValueError for a wrong type or value.

    The fields of a section are replaced at once, because one may be valid only with a value of another.
    """
    changes: dict[str, dict[str, Any]] = {}
    for field, value in values.items():
        section, name = field.split(".")
        changes.setdefault(section, {})[name] = _converted(field, value, getattr(getattr(setup, section), name))
    sections = {section: dataclasses.replace(getattr(setup, section), **fields) for section, fields in changes.items()}
    return dataclasses.replace(setup, **sections)


def _converted(field: str, value: Any, before: Any) -> Any:
    """Returns a value in the type of the field's current one, `before`."""
    kind = next(kind for kind in (bool, str, int | float) if isinstance(before, kind))
    if not isinstance(value, kind) or isinstance(before, bool) != isinstance(value, bool):
        raise ValueError(f"{field} is {value!r}; it must have the type of its default, {before!r}")
    if isinstance(before, int) and value != int(value):
        raise ValueError(f"{field} is {value!r}; it must be an integer")
    return type(before)(value)


def _bounds(domain: Any) -> tuple[Any, ...]:
    """Returns the lowest and the highest value of a numeric distribution; nothing for `choice` and `grid`."""
    from ray.tune.search.sample import Float, Integer

    if isinstance(domain, Integer):
        return domain.lower, domain.upper - 1
    return (domain.lower, domain.upper) if isinstance(domain, Float) else ()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _number(value: Any) -> Any:
    """Returns strings like 1e-4 as numbers, which YAML does not do."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _is_number(value: Any) -> bool:
    """Whether a value is a bound that NumPy can draw from, also after a difference of two."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LIMIT


def _domain(tune: Any, distribution: str, values: list[Any]) -> Any:
    if not values:
        raise ValueError("no values in the parentheses; give at least one")
    if any(isinstance(value, list | dict) for value in values):
        raise ValueError("a value is a list or a mapping; give numbers and words")
    infinite = any(isinstance(value, float) and not math.isfinite(value) for value in values)
    if infinite and distribution in ("grid", "choice"):
        raise ValueError("a value is not finite; give numbers and words")
    if distribution == "grid":
        return tune.grid_search(values)
    if distribution == "choice":
        return tune.choice(values)
    if len(values) != 2 or not all(_is_number(value) for value in values) or not values[0] < values[1]:
        raise ValueError(f"{distribution} takes two numbers, a lower and a larger upper bound, both below 2^62")
    if distribution == "randint" and any(value != int(value) for value in values):
        raise ValueError("randint takes two integers")
    if distribution == "loguniform" and values[0] <= 0:
        raise ValueError("loguniform takes positive bounds; raise the lower one")
    return getattr(tune, distribution)(*values)

"""The space of a sweep: setup fields and where their values come from, as users write them.

    train.learning_rate=loguniform(1e-4, 1e-2)   model.gate=choice(vector, scalar)   train.seed=grid(0, 1, 2)

`choice`, `uniform`, `loguniform`, `randint` (end excluded) draw a value for every trial; `grid` tries each, with every
value of the other grids.
"""

import dataclasses
import re
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import yaml

from infra.errors import UserError
from pipelines.training.config import PLACEMENT
from pipelines.training.setup import TrainingSetup

SECTIONS = ("model", "train")
_ENTRY = re.compile(r"(\w+)\.(\w+)=(\w+)\((.*)\)")
_DRAWS = ("choice", "grid", "uniform", "loguniform", "randint")


def parse_space(entries: Sequence[str]) -> dict[str, Any]:
    """Ray Tune's search space of such entries, by dotted field. UserError names the entry and the fix."""
    from ray import tune

    space: dict[str, Any] = {}
    for entry in entries:
        match = _ENTRY.fullmatch(entry.strip())
        if match is None or match[3] not in _DRAWS:
            raise UserError(
                f"--space '{entry}': write section.field=draw(values), draw being one of {', '.join(_DRAWS)}"
            )
        section, name, draw, written = match.groups()
        if section not in SECTIONS or name not in fields_of(section):
            raise UserError(f"--space '{entry}': there is no field {section}.{name} of a model or its training")
        field = f"{section}.{name}"
        if field == "train.epochs":
            raise UserError(f"--space '{entry}': trials are compared by their epochs; set --train.epochs for all")
        if section == "train" and name in PLACEMENT:
            raise UserError(f"--space '{entry}': {field} does not change what is trained; set it for all trials")
        if field in space:
            raise UserError(f"--space names {field} twice; give it once")
        values = yaml.safe_load(f"[{written}]")
        values = [_number(value) for value in values]
        try:
            space[field] = _domain(tune, draw, values)
            for value in values:
                with_fields(TrainingSetup(), {field: value})
        except (TypeError, ValueError) as error:
            raise UserError(f"--space '{entry}': {' '.join(str(error).split())}") from error
    if not space:
        raise UserError("--space is empty; name at least one field, as train.learning_rate=loguniform(1e-4, 1e-2)")
    return space


def draws(space: dict[str, Any], count: int, seed: int) -> list[dict[str, Any]]:
    """`count` draws for every point of the grids, fewer where some are alike: equal values are one training."""
    rng = np.random.default_rng(seed)
    grids = {field: domain["grid_search"] for field, domain in space.items() if isinstance(domain, dict)}
    found = {}
    for point in product(*grids.values()):
        for _ in range(count):
            values = dict(zip(grids, point, strict=True))
            drawn = {f: values[f] if f in grids else d.sample(random_state=rng) for f, d in space.items()}
            found[tuple(drawn.values())] = drawn
    return list(found.values())


def fields_of(section: str) -> set[str]:
    """Names of a section's fields."""
    return {field.name for field in dataclasses.fields(TrainingSetup.__dataclass_fields__[section].type)}  # type: ignore[arg-type]


def with_fields(setup: TrainingSetup, values: dict[str, Any]) -> TrainingSetup:
    """The setup with some dotted fields replaced; ValueError where one is out of range."""
    for field, value in values.items():
        section, name = field.split(".")
        part = getattr(setup, section)
        before = getattr(part, name)
        if isinstance(before, bool) != isinstance(value, bool) or isinstance(before, str) != isinstance(value, str):
            raise ValueError(f"{field} is {before!r} by default; {value!r} is of another kind")
        if isinstance(before, int) and not isinstance(before, bool) and value != int(value):
            raise ValueError(f"{field} is a whole number; {value!r} is not")
        value = float(value) if isinstance(before, float) else value
        setup = dataclasses.replace(setup, **{section: dataclasses.replace(part, **{name: value})})
    return setup


def _number(value: Any) -> Any:
    """YAML reads 1e-4 as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _domain(tune: Any, draw: str, values: list[Any]) -> Any:
    if not values:
        raise ValueError("no values between the brackets")
    if draw == "grid":
        return tune.grid_search(values)
    if draw == "choice":
        return tune.choice(values)
    if len(values) != 2 or not values[0] < values[1]:
        raise ValueError(f"{draw} takes a lower and an upper end")
    if draw == "loguniform" and values[0] <= 0:
        raise ValueError("loguniform takes positive ends")
    return getattr(tune, draw)(*values)

"""The options that several commands have. Each means the same in all of them (tests/jobs/test_options.py checks it)."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from infra.errors import UserError
from infra.log import log
from pipelines.datasets.columns import parse_columns
from pipelines.datasets.formats import FORMATS
from pipelines.datasets.importer import DatasetFiles
from pipelines.extraction.config import ExtractConfig
from pipelines.features.commands import FeatureFormat
from pipelines.models.device import Device

_FEATURES = {"type": str, "help": "URI of a feature set: a folder or s3:// prefix."}
SHARED: dict[str, dict[str, Any]] = {
    "--dataset": {
        "type": str,
        "nargs": "+",
        "metavar": "[SPLIT=]FILE",
        "help": "Files with photo names and captions, as paths or URIs. Prefix a file with SPLIT= to put all "
        "its photos into that split.",
    },
    "--photos": {
        "type": str,
        "help": "Folder, s3:// prefix or .tar that photo paths are relative to. Defaults to the current folder, or to "
        "the data set if it contains the photos.",
    },
    "--format": {
        "choices": FORMATS,
        "help": "Format of the --dataset files. By default it is detected from their content.",
    },
    "--columns": {
        "type": str,
        "metavar": "ROLE=NAME,...",
        "help": "Names of the columns of a table, such as image=url,caption=TEXT. Roles: image, caption, captions, "
        "split, key.",
    },
    "--features": {**_FEATURES, "metavar": "URI"},
    "features": {**_FEATURES, "metavar": "FEATURES"},
    "--feature-root": {
        "type": str,
        "default": ExtractConfig.output,
        "metavar": "URI",
        "help": "Folder or s3:// prefix that contains the feature sets.",
    },
    "--feature-format": {
        "type": FeatureFormat,
        "help": "Format of PATH: a folder of SCAN (scan), or TSV of object features (tsv).",
    },
    "path": {"type": Path, "metavar": "PATH", "help": "Folder of precomputed features in this format."},
    "--model": {
        "type": str,
        "help": "URI of a model: models:/<name>@champion, models:/<name>/<version>, runs:/<run id>, or the path or "
        "s3:// URI of a checkpoint folder.",
    },
    "--name": {"type": str, "required": True, "help": "Name of the registered model."},
    "--split": {"type": str, "default": "test", "help": "Split to read: train, val, test or gallery."},
    "--device": {
        "type": Device,
        "default": "auto",
        "help": "Device to run the model on: auto, cpu or cuda. auto selects a GPU if this machine has one.",
    },
    "--intersect": {"action": "store_true", "help": "Use only the photos that all feature sets contain."},
    "--champion-features": {
        "type": str,
        "metavar": "URI",
        "help": "URI of the feature set for a champion with another detector. Defaults to the one it was trained on.",
    },
    "--report": {"type": Path, "help": "Write the results to this .md or .html file."},
    "--page": {"type": Path, "help": "Write the photos with boxes to this HTML file."},
    "--dry-run": {"action": "store_true", "help": "Print the planned actions without performing them."},
    "--address": {
        "type": str,
        "metavar": "URL",
        "help": "URL of the dashboard of a Ray cluster, such as http://<head>:8265.",
    },
    "index": {"type": str, "metavar": "INDEX", "help": "URI of a search index, a folder or s3:// prefix."},
    "--index": {"type": str, "metavar": "URI", "help": "URI of a search index. Append @<12 hex> to open a snapshot."},
    "--delete": {"action": "store_true", "help": "Delete the orphaned objects instead of listing them."},
    "--unfinished": {"action": "store_true", "help": "Include what unfinished jobs have completed."},
    "--earlier-snapshots": {"action": "store_true", "help": "Include earlier snapshots and their objects."},
    "--json": {"action": "store_true", "help": "Print the result as JSON."},
}
"""Arguments of `add_argument` for each."""


def add(parser: Any, name: str, detail: str = "", **changes: Any) -> None:
    """Adds a shared option. `detail` is a further sentence of its help; `changes` replace its arguments."""
    shared = {**SHARED[name], **changes}
    help_ = f"{shared.pop('help')} {detail}" if detail else shared.pop("help")
    parser.add_argument(name, **shared, help=help_)


def add_dataset(parser: Any, *, required: bool, photos: bool = True) -> None:
    """Adds the options that describe a data set, which `dataset_files` reads; `--photos` only with `photos`."""
    add(parser, "--dataset", required=required)
    for name in ("--photos", "--format", "--columns") if photos else ("--format", "--columns"):
        add(parser, name)


def dataset_files(arguments: Any) -> DatasetFiles | None:
    """Returns the data set of the options; None without one. Raises UserError for options without effect."""
    if arguments.dataset is None:
        others = ("photos", "format", "columns")
        given = next((name for name in others if getattr(arguments, name, None) is not None), None)
        if given is not None:
            raise UserError(f"--{given} has no effect without --dataset; add --dataset, or omit it")
        return None
    columns = {} if arguments.columns is None else parse_columns(arguments.columns)
    return DatasetFiles(tuple(arguments.dataset), arguments.format, columns)


def warn_without_effect(arguments: Any, sections: Collection[str], reason: str) -> None:
    """Warns of each option of these sections on the command line. `reason` is for example `without --plan`.

    Presets and config files may set these sections, because other commands read the same files.
    """
    for option in arguments.section_options:
        if option.removeprefix("--").partition(".")[0] in sections:
            log.warning("%s has no effect %s", option, reason)

"""The options that several commands have. Each means the same in all of them (tests/jobs/test_options.py checks it)."""

from pathlib import Path
from typing import Any

from infra.errors import UserError
from pipelines.datasets.columns import parse_columns
from pipelines.datasets.formats import FORMATS
from pipelines.datasets.importer import DatasetFiles
from pipelines.extraction.config import ExtractConfig
from pipelines.features.commands import Layout
from pipelines.models.device import Device

_FEATURES = {"type": str, "help": "URI of a feature set, a folder or s3:// prefix"}
SHARED: dict[str, dict[str, Any]] = {
    "--dataset": {
        "type": str,
        "nargs": "+",
        "metavar": "[SPLIT=]FILE",
        "help": "files of photo names and captions, as paths or URIs; SPLIT= if all photos of one are of that split",
    },
    "--photos": {"type": str, "help": "folder, s3:// prefix or .tar to which photo paths are relative"},
    "--format": {"choices": FORMATS, "help": "format of the --dataset files; by default it is detected by content"},
    "--columns": {
        "type": str,
        "metavar": "ROLE=NAME,...",
        "help": "columns of a table that have other names: image=url,caption=TEXT; also captions, split, key",
    },
    "--features": {**_FEATURES, "metavar": "URI"},
    "features": {**_FEATURES, "metavar": "FEATURES"},
    "--feature-root": {
        "type": str,
        "default": ExtractConfig.output,
        "metavar": "URI",
        "help": "root of feature sets: folder or s3:// prefix that contains them",
    },
    "--layout": {"type": Layout, "help": "layout of PATH: SCAN's folder, or bottom-up-attention TSV"},
    "path": {"type": Path, "metavar": "PATH", "help": "folder of precomputed features in that layout"},
    "--model": {
        "type": str,
        "help": "model URI: models:/<name>@champion, models:/<name>/<version>, runs:/<run id>, or a checkpoint folder "
        "(a path or s3://)",
    },
    "--name": {"type": str, "required": True, "help": "name of a registered model"},
    "--split": {"type": str, "default": "test", "help": "train, val, test or gallery"},
    "--device": {
        "type": Device,
        "default": "auto",
        "help": "auto, cpu or cuda, where the model runs; auto is a GPU if this machine has one",
    },
    "--intersect": {"action": "store_true", "help": "use the photos that all feature sets have, leave out others"},
    "--report": {"type": Path, "help": "write the results to this .md or .html file"},
    "--page": {"type": Path, "help": "write the photos with boxes to this HTML file"},
    "--dry-run": {"action": "store_true", "help": "print what would be done, but do not do it"},
    "--address": {"type": str, "metavar": "URL", "help": "URL of a cluster's dashboard, http://<head>:8265"},
}
"""Arguments of `add_argument` for each."""


def add(parser: Any, name: str, detail: str = "", **changes: Any) -> None:
    """Adds a shared option. `detail` continues its help; `changes` replace what this command needs otherwise."""
    shared = {**SHARED[name], **changes}
    help_ = f"{shared.pop('help')}; {detail}" if detail else shared.pop("help")
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
            raise UserError(f"--{given} has no effect without --dataset; give both or neither")
        return None
    columns = {} if arguments.columns is None else parse_columns(arguments.columns)
    return DatasetFiles(tuple(arguments.dataset), arguments.format, columns)

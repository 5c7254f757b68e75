"""The network behind any URI of a model: a registered version, a run's logged model, or a checkpoint folder."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

import infra.tracking
from infra.errors import UserError
from infra.registry import download_model
from infra.storage.open import open_store
from infra.tracking import Tracking, TrackingConfig
from pipelines.features.feature_set import FeatureSet
from shan_model.bundle import CONFIG, FILES, HF_FILES, TEXT_ENCODER, load_bundle
from shan_model.model import SHAN

MODEL_HELP = (
    "models:/<name>@champion, models:/<name>/<version>, runs:/<run id>, or the folder of a checkpoint (a path or s3://)"
)
LINEAGE = "lineage.json"
"""File of a checkpoint beside its bundle: the lineage of the features that it was trained on."""
BUNDLE = "bundle"
"""Artifact of a registered model: its bundle."""
_REGISTRY = ("models:/", "runs:/")


def load_matchers(uris: Sequence[str], features: FeatureSet, config: TrackingConfig) -> list[SHAN]:
    """The networks of some URIs; the tracking store is asked only where a URI needs it. UserError as `load_matcher`."""
    tracking = infra.tracking.connect(config) if any(uri.startswith(_REGISTRY) for uri in uris) else None
    return [load_matcher(tracking, uri, features) for uri in uris]


def load_matcher(tracking: Tracking | None, uri: str, features: FeatureSet) -> SHAN:
    """The network of a URI, in evaluation mode, if it was made for these features.

    Raises UserError where there is no such model and where the fingerprints differ.
    """
    shan, lineage = _from_registry(tracking, uri) if uri.startswith(_REGISTRY) else _from_checkpoint(uri)
    made_for, found = lineage.get("fingerprint"), features.lineage["fingerprint"]
    if made_for != found:
        raise UserError(
            f"{uri} was made for features of {made_for} but {features.uri} has features of {found}; "
            "extract with the detector that the model was trained on"
        )
    return shan


def _from_registry(tracking: Tracking | None, uri: str) -> tuple[SHAN, dict[str, Any]]:
    assert tracking is not None
    of_run = uri.startswith("runs:/") and "/" not in uri.removeprefix("runs:/").strip("/")
    place = f"{uri.rstrip('/')}/model" if of_run else uri
    with tempfile.TemporaryDirectory() as folder:
        bundle, lineage = download_model(tracking, place, BUNDLE, Path(folder))
        return _network(bundle, uri), lineage


def _from_checkpoint(uri: str) -> tuple[SHAN, dict[str, Any]]:
    """Its files are copied to this machine first, since a bundle is read from a folder."""
    store = open_store(uri)
    with tempfile.TemporaryDirectory() as folder:
        try:
            lineage = dict(json.loads(store.read(LINEAGE)))
            (Path(folder) / TEXT_ENCODER).mkdir()
            config = dict(json.loads(store.read(CONFIG)))
            for name in (*FILES, *(HF_FILES if config.get("text_encoder") == "hf" else ())):
                (Path(folder) / name).write_bytes(store.read(name))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(
                f"{uri}: no checkpoint of a model here ({', '.join((*FILES, LINEAGE))}); "
                "name one by models:/, runs:/ or the folder of a checkpoint"
            ) from error
        except UserError:
            raise
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{uri}: its {LINEAGE} or {CONFIG} is damaged ({error}); take another checkpoint"
            ) from error
        return _network(Path(folder), uri), lineage


def _network(bundle: Path, uri: str) -> SHAN:
    """UserError where the files are damaged: they are stored data, and no code comes with them."""
    try:
        return load_bundle(bundle)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{uri}: its files are damaged ({reason}); take another version or checkpoint") from error

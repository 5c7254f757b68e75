"""Loads the network behind a model URI: a registered version, the model of a run, or a checkpoint folder."""

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

import infra.tracking
from infra.errors import UserError
from infra.registry import download_model
from infra.storage.disk import replace_file
from infra.storage.open import open_store
from infra.tracking import Tracking, TrackingConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.models.artifacts import BUNDLE
from pipelines.models.package import LINEAGE
from shan_model.bundle import CONFIG, FILES, HF_FILES, ModelFormatError, load_bundle
from shan_model.finite import NotFiniteError
from shan_model.model import SHAN

_REGISTRY = ("models:/", "runs:/")
_OWN_FEATURES = re.compile(r"=(?=[/.~]|\w+:/)")
"""Separates the folder of a checkpoint, which may contain `=` as in `date=2026`, from the URI of a feature set."""


def split_features(model: str) -> tuple[str, str | None]:
    """Splits `MODEL=FEATURES` into the URIs of a model and of its feature set, which is None for `MODEL` alone.

    After the folder of a checkpoint, FEATURES has to start with `/`, `.`, `~` or a scheme.
    """
    if model.startswith(_REGISTRY):
        uri, _, features = model.partition("=")
    else:
        uri, *rest = _OWN_FEATURES.split(model, 1)
        features = rest[0] if rest else ""
    return uri, features or None


def load_matchers(models: Sequence[tuple[str, FeatureSet]], config: TrackingConfig, device: str = "cpu") -> list[SHAN]:
    """Returns the networks of several URIs, each with the feature set on which it will be used.

    Connects to MLflow only if a URI needs it. Raises as `load_matcher`.
    """
    tracking = infra.tracking.require_store(config) if any(uri.startswith(_REGISTRY) for uri, _ in models) else None
    return [load_matcher(tracking, uri, features, device) for uri, features in models]


def load_matcher(tracking: Tracking | None, uri: str, features: FeatureSet, device: str = "cpu") -> SHAN:
    """Returns the network of a model URI in evaluation mode on a device. No code that is stored with the model runs.

    `tracking` may be None for a checkpoint folder. Raises UserError if there is no such model, if its files are
    corrupt, of an unknown format or hold weights that are not finite, and if it was made for features of another
    detector.
    """
    shan, lineage = _from_registry(tracking, uri) if uri.startswith(_REGISTRY) else _from_checkpoint(uri)
    made_for, found = lineage.get("fingerprint"), features.lineage["fingerprint"]
    if made_for != found:
        raise UserError(
            f"{uri} was made for features of {made_for} but {features.uri} has features of {found}; "
            "extract with the detector that the model was trained on"
        )
    return shan.to(device)


def _from_registry(tracking: Tracking | None, uri: str) -> tuple[SHAN, dict[str, Any]]:
    assert tracking is not None
    is_run = uri.startswith("runs:/") and "/" not in uri.removeprefix("runs:/").strip("/")
    model_uri = f"{uri.rstrip('/')}/model" if is_run else uri
    with tempfile.TemporaryDirectory() as folder:
        bundle, lineage = download_model(tracking, model_uri, BUNDLE, Path(folder))
        return _load(bundle, uri), lineage


def _from_checkpoint(uri: str) -> tuple[SHAN, dict[str, Any]]:
    """Copies the checkpoint's model files to a local folder, since a bundle is read from a folder."""
    store = open_store(uri)
    with tempfile.TemporaryDirectory() as folder:
        try:
            lineage = dict(json.loads(store.read(LINEAGE)))
            config = dict(json.loads(store.read(CONFIG)))
            for name in (*FILES, *(HF_FILES if config.get("text_encoder") == "hf" else ())):
                replace_file(Path(folder) / name, store.read(name))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(
                f"{uri}: not a checkpoint folder of a model (needs {', '.join((*FILES, LINEAGE))}); "
                "give a models:/ or runs:/ URI or a checkpoint folder"
            ) from error
        except (ValueError, TypeError) as error:
            raise UserError(f"{uri}: {LINEAGE} or {CONFIG} is corrupt ({error}); use another checkpoint") from error
        return _load(Path(folder), uri), lineage


def _load(bundle: Path, uri: str) -> SHAN:
    """Raises UserError if the files are corrupt, of an unknown format, or hold weights that are not finite.

    They are stored data, not trusted input.
    """
    try:
        return load_bundle(bundle)
    except ModelFormatError as error:
        raise UserError(f"{uri}: {error}") from error
    except NotFiniteError as error:
        raise UserError(f"{uri}: {error}; use another version or checkpoint") from error
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{uri}: the model's files are corrupt ({reason}); use another version or checkpoint"
        ) from error

"""Loads the network behind a model URI: a registered version, the model of a run, or a checkpoint folder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

import infra.tracking
from infra.canonical_json import load_object
from infra.errors import UserError
from infra.model_artifacts import download_folder, download_model
from infra.storage.disk import replace_file
from infra.storage.open import open_store
from infra.storage.process_folder import temporary_folder
from infra.tracking import Tracking, TrackingConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.models.artifacts import BUNDLE, DETECTOR
from pipelines.models.detection import MissingDetectorError, ModelDetector
from pipelines.models.digests import bundle_digest
from pipelines.models.package import LINEAGE
from shan_model.bundle import CONFIG, FILES, HF_FILES, ModelFormatError, load_bundle
from shan_model.finite import NotFiniteError
from shan_model.model import SHAN

_REGISTRY = ("models:/", "runs:/")
_OWN_FEATURES = re.compile(r"=(?=[/.~]|\w+:/)")
"""Separates the folder of a checkpoint, which may contain `=` as in `date=2026`, from the URI of a feature set."""


@dataclass(frozen=True)
class LoadedModel:
    """A network in evaluation mode, and what identifies it."""

    uri: str
    shan: SHAN
    fingerprint: str
    """Fingerprint of the detector that it was made for."""
    digest: str
    """Digest of its files: equal for copies of a model."""
    run_id: str | None = None
    """MLflow run of its training; None for a checkpoint folder, which is read without MLflow."""


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


def store_of_models(uris: Sequence[str], config: TrackingConfig) -> Tracking | None:
    """Connects to the tracking store if one of these models is in it; returns None otherwise."""
    return infra.tracking.require_store(config) if any(map(is_registered, uris)) else None


def load_matcher(tracking: Tracking | None, uri: str, features: FeatureSet, device: str = "cpu") -> SHAN:
    """Returns the network of a model URI in evaluation mode on a device. No code that is stored with the model runs.

    `tracking` may be None for a checkpoint folder. Raises UserError if there is no such model, if its files are
    corrupt, of an unknown format or hold weights that are not finite, and if it was made for features of another
    detector.
    """
    return load_model_for(tracking, uri, features, device).shan


def load_model_for(tracking: Tracking | None, uri: str, features: FeatureSet, device: str = "cpu") -> LoadedModel:
    """Returns the model of a URI for a feature set. Raises as `load_matcher`."""
    model = load_model(tracking, uri, device)
    require_fingerprint(model, features)
    return model


def is_registered(uri: str) -> bool:
    """Returns whether a model URI names a registered version or the model of a run, which are in the tracking store."""
    return uri.startswith(_REGISTRY)


def load_model(tracking: Tracking | None, uri: str, device: str = "cpu") -> LoadedModel:
    """Returns the model of a URI. Raises as `load_matcher`, but does not compare fingerprints."""
    model = _from_registry(tracking, uri) if is_registered(uri) else _from_checkpoint(uri)
    model.shan.to(device)
    return model


def require_fingerprint(model: LoadedModel, features: FeatureSet) -> None:
    """Raises UserError if a model was made for features of another detector."""
    found = features.index.fingerprint
    if model.fingerprint != found:
        raise UserError(
            f"{model.uri} was made for features of {model.fingerprint} but {features.uri} has features of {found}; "
            "extract with the detector that the model was trained on"
        )


def _model_uri(uri: str) -> str:
    """Returns the URI of the model that a run logged, for the URI of a run; other URIs unchanged."""
    is_run = uri.startswith("runs:/") and "/" not in uri.removeprefix("runs:/").strip("/")
    return f"{uri.rstrip('/')}/model" if is_run else uri


def load_detector(tracking: Tracking | None, uri: str, folder: Path) -> ModelDetector:
    """Returns the detector of a registered model, whose files are copied into `folder`.

    Raises MissingDetectorError for a checkpoint folder, which has none, and UserError for one of an unknown format.
    """
    if not is_registered(uri):
        raise MissingDetectorError(
            f"{uri} is a checkpoint folder, which has no detector; give a models:/ or runs:/ URI"
        )
    assert tracking is not None
    model = download_model(tracking, _model_uri(uri), folder)
    try:
        return ModelDetector(model.artifact(DETECTOR), {})
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{uri}: its detector.json is corrupt ({error}); use another version") from error


def _from_registry(tracking: Tracking | None, uri: str) -> LoadedModel:
    assert tracking is not None
    with download_folder() as folder:
        model = download_model(tracking, _model_uri(uri), folder)
        return replace(_load(model.artifact(BUNDLE), uri, model.metadata), run_id=model.metadata.get("run"))


def _from_checkpoint(uri: str) -> LoadedModel:
    """Copies the checkpoint's model files to a local folder, since a bundle is read from a folder."""
    store = open_store(uri)
    with temporary_folder("shan-model-") as folder:
        try:
            lineage = load_object(store.read(LINEAGE))
            config = load_object(store.read(CONFIG))
            for name in (*FILES, *(HF_FILES if config.get("text_encoder") == "hf" else ())):
                replace_file(folder / name, store.read(name))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(
                f"{uri}: not a checkpoint folder of a model (needs {', '.join((*FILES, LINEAGE))}); "
                "give a models:/ or runs:/ URI or a checkpoint folder"
            ) from error
        except (ValueError, TypeError) as error:
            raise UserError(f"{uri}: {LINEAGE} or {CONFIG} is corrupt ({error}); use another checkpoint") from error
        return _load(folder, uri, lineage)


def _load(bundle: Path, uri: str, lineage: dict[str, Any]) -> LoadedModel:
    """Raises UserError if the files are corrupt, of an unknown format, or hold weights that are not finite.

    They are stored data, not trusted input.
    """
    try:
        return LoadedModel(uri, load_bundle(bundle), str(lineage.get("fingerprint")), bundle_digest(bundle))
    except ModelFormatError as error:
        raise UserError(f"{uri}: {error}") from error
    except NotFiniteError as error:
        raise UserError(f"{uri}: {error}; use another version or checkpoint") from error
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{uri}: the model's files are corrupt ({reason}); use another version or checkpoint"
        ) from error

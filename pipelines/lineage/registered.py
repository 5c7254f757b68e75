"""Checks of runs and registered versions: what they record, what they carry, and what they were made from."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infra.errors import CorruptDataError, StorageError, UserError
from infra.model_artifacts import StoredModel, download_folder, download_model
from infra.paths import is_file
from infra.registry import champions
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.features.mlflow_lineage import RUN_TAGS, recorded_lineage
from pipelines.lineage.mlflow_files import environment_check, loader_check, requirements
from pipelines.lineage.report import Check, Node, agreement, unreadable
from pipelines.lineage.stored import check_fingerprint
from pipelines.models.artifacts import BUNDLE, DETECTOR
from pipelines.models.detection import DETECTOR_FILE, StoredDetector
from pipelines.models.digests import (
    BUNDLE_SHA256,
    CODE_SHA256,
    DETECTOR_SHA256,
    REQUIREMENTS_SHA256,
    bundle_digest,
    code_digest,
    detector_digest,
    requirements_digest,
)
from shan_model.bundle import FILES

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

LINEAGE = ("manifest", "fingerprint", "feature_set")
DIGESTS = (BUNDLE_SHA256, CODE_SHA256, DETECTOR_SHA256, REQUIREMENTS_SHA256)
_OPTIONAL = ("dataset", "detector.name", "detector.mode", "detector.licence", *DIGESTS)
"""What versions of early releases may not record."""


def find_run(tracking: Tracking, run_id: str) -> "Run | None":
    """Returns a run, or None if the store does not have it. Raises TrackingError if the store fails."""
    from mlflow.exceptions import MlflowException

    try:
        return tracking.client().get_run(run_id)
    except MlflowException:  # a store that fails raises TrackingError
        return None


def run_node(run: "Run", features: FeatureSet | None) -> Node:
    """Returns a run and whether its tags record its feature set, which is None if it cannot be opened."""
    status = run.info.status.lower()
    exists = Check("ok", f"it exists ({status})")
    if run.info.lifecycle_stage == "deleted":
        exists = Check("broken", f"it is deleted; `mlflow runs restore --run-id {run.info.run_id}` restores it")
    checks = [exists]
    tags = run.data.tags
    if missing := [name for name in RUN_TAGS if name not in tags]:
        checks.append(Check("broken", f"it has no tag {', '.join(missing)}"))
    elif features is not None:
        checks.append(agreement(recorded_lineage(tags), features.lineage, "its tags", "the feature set"))
    return Node("run", f"runs:/{run.info.run_id}", tuple(checks))


def missing_run_node(run_id: str) -> Node:
    """Returns the node of a run that the tracking store does not have."""
    return Node("run", f"runs:/{run_id}", (Check("broken", "the tracking store has no such run"),))


def version_node(tracking: Tracking, version: "ModelVersion", run: "Run | None") -> Node:
    """Returns a version, whether it is or was champion, and whether tags, files and detector are those of its run."""
    uri, tags = f"models:/{version.name}/{version.version}", dict(version.tags)
    checks, history = [], champions(tracking, version.name)
    if int(version.version) in history:
        is_champion = int(version.version) == history[-1]
        checks.append(Check("ok", "it is the champion" if is_champion else "it was champion, and may be again"))
    if run is not None:
        recorded = recorded_lineage(run.data.tags) | {"run": run.info.run_id}
        checks.append(agreement(tags, recorded, "its tags", "the run"))
    checks += _model_checks(tracking, uri, tags)
    return Node("version", uri, tuple(checks))


def _model_checks(tracking: Tracking, uri: str, tags: Mapping[str, str]) -> list[Check]:
    """Returns the checks of the stored model; none of its code runs."""
    with download_folder() as temporary:
        try:
            model = download_model(tracking, uri, temporary)
        except (UserError, StorageError) as error:
            return [unreadable(error)]
        names = [*LINEAGE, *(name for name in _OPTIONAL if name in tags or name in model.metadata)]
        tagged = {name: tags.get(name, "missing") for name in names}
        recorded = agreement(model.metadata, tagged, "its files", "its tags")
        return [
            recorded,
            *_contents(model, tags),
            loader_check(model),
            environment_check(model),
            _carried_detector(model, tags.get("fingerprint", "")),
        ]


def _contents(model: StoredModel, tags: Mapping[str, str]) -> list[Check]:
    """Compares the stored files with the digests that the version records."""
    try:
        bundle = model.artifact(BUNDLE)
        found = {
            BUNDLE_SHA256: bundle_digest(bundle),
            CODE_SHA256: code_digest(model.script(), *model.code()),
            DETECTOR_SHA256: detector_digest(model.artifact(DETECTOR)),
            REQUIREMENTS_SHA256: requirements_digest(requirements(model)),
        }
    except CorruptDataError as error:
        return [unreadable(error)]
    if missing := [name for name in FILES if not is_file(bundle / name)]:
        return [Check("broken", f"its bundle has no {', '.join(missing)}")]
    expected = {name: digest for name in DIGESTS if (digest := tags.get(name) or model.metadata.get(name))}
    checks = []
    if expected:
        compared = agreement(found, expected, "its stored files", "the version")
        parts = ", ".join(name.removesuffix(".sha256") for name in expected)
        equal = Check("ok", f"computed again from its {parts}: equal")
        checks.append(compared if compared.state == "broken" else equal)
    if unrecorded := [name for name in DIGESTS if name not in expected]:
        earlier = f"{', '.join(unrecorded)} not recorded; an earlier release registered it"
        checks.append(Check("not checked", earlier))
    return checks


def _carried_detector(model: StoredModel, fingerprint: str) -> Check:
    try:
        folder = model.artifact(DETECTOR)
        detector = StoredDetector.read(folder)
    except UserError as error:
        return unreadable(error)
    except (OSError, ValueError, TypeError) as error:  # of the local copy
        return Check("broken", f"its {DETECTOR_FILE} is corrupt ({error})")
    if detector.fingerprint != fingerprint:
        return Check("broken", f"its detector has the fingerprint {detector.fingerprint}, its tags have {fingerprint}")
    settings: dict[str, Any] = dict(detector.settings) | detector.files_in(folder)
    source = "the detector that it carries" if detector.mode == "carry" else "the detector that it refers to"
    return check_fingerprint(detector.name, settings, fingerprint, source)

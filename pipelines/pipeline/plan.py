"""What a pipeline has done already and what it will do, as text. Nothing is written."""

from infra.errors import CorruptDataError
from infra.registry import champion_version
from infra.tracking import Tracking
from pipelines.datasets.manifest import Manifest
from pipelines.evaluation.evaluate import evaluation_text
from pipelines.evaluation.promote import ChampionState, earlier_decision
from pipelines.extraction.run import ExtractionPlan, plan_extraction
from pipelines.features.feature_set import FeatureSet, MissingFeatureSetError
from pipelines.pipeline.setup import PipelineSetup
from pipelines.search.index_commands import load_version
from pipelines.search.index_plan import plan_index
from pipelines.training.inputs import find_run_directory
from pipelines.training.stored_progress import stored_progress
from pipelines.training.train import TrainedModel, finished_training, training_summary


def pipeline_plan(manifest: Manifest, name: str, setup: PipelineSetup, tracking: Tracking | None) -> str:
    """Returns a line for each stage up to `setup.until`. `tracking` is None if the store does not exist yet.

    Ray is joined or started only if photos must be hashed to decide whether they changed.
    """
    extraction = plan_extraction(manifest, setup.extract, setup.training.cluster)
    features = _finished(extraction)
    trained = _trained(features, name, setup, tracking) if features is not None and setup.runs("train") else None
    lines = {"extract": _extract_line(extraction)}
    if setup.runs("train"):
        lines["train"] = _train_line(features, name, setup, trained)
    if setup.runs("evaluate"):
        lines["evaluate"] = _evaluate_line(setup, tracking, trained)
    if setup.runs("promote"):
        decided = _decided(features, name, setup, tracking, trained)
        lines["promote"] = _promote_line(decided, name, setup, tracking)
        if setup.runs("index"):
            lines["index"] = _index_line(features, setup, tracking, decided)
    head = f"{name}: data set {manifest.name}, {manifest.table.num_rows} photos in {manifest.root}"
    return "\n".join([head, *(f"  {stage:9} {line}" for stage, line in lines.items())])


def _evaluate_line(setup: PipelineSetup, tracking: Tracking | None, trained: TrainedModel | None) -> str:
    if tracking is None or trained is None:
        logged = None
    else:
        logged = evaluation_text(tracking, trained.run_id, "test", setup.score.precision)
    return "the new version on split 'test'" if logged is None else "done"


def _finished(plan: ExtractionPlan) -> FeatureSet | None:
    """Returns the feature set if the extraction has nothing to do.

    Shards may be complete while the index is missing, or is that of an earlier manifest.
    """
    if plan.feature_set.missing:
        return None
    try:
        features = FeatureSet.open(plan.store.uri)
    except (MissingFeatureSetError, CorruptDataError):
        return None
    shards = tuple(shard.name for shard in features.index.shards)
    is_current = features.index.manifest == plan.manifest.digest() and shards == plan.feature_set.shards
    return features if is_current else None


def _extract_line(plan: ExtractionPlan) -> str:
    work = plan.feature_set
    photos = sum(len(task.to_detect) for task in work.missing)
    state = f"{photos} photos to detect; {len(work.complete)} of {len(work.shards)} shards are complete"
    return f"{state if work.missing else f'done, {len(work.shards)} shards'} in {plan.store.uri}"


def _trained(features: FeatureSet, name: str, setup: PipelineSetup, tracking: Tracking | None) -> TrainedModel | None:
    return finished_training(find_run_directory(features, name, setup.training), tracking)


def _train_line(features: FeatureSet | None, name: str, setup: PipelineSetup, trained: TrainedModel | None) -> str:
    train = setup.training.train
    if trained is not None:
        return f"done, {training_summary(trained)}"
    if features is not None:
        directory = find_run_directory(features, name, setup.training)
        if directory.is_claimed():
            done = stored_progress(directory).validated
            return f"resumes after {done} of {train.epochs} epochs in {directory.uri}"
    return f"{train.epochs} epochs on {train.num_workers} workers"


def _decided(
    features: FeatureSet | None,
    name: str,
    setup: PipelineSetup,
    tracking: Tracking | None,
    trained: TrainedModel | None,
) -> ChampionState | None:
    """Returns the decision on the new version if it exists and still holds."""
    if features is None or trained is None or tracking is None:
        return None
    return earlier_decision(tracking, name, trained.version, setup.comparison(features), setup.promote, setup.score)


def _promote_line(decided: ChampionState | None, name: str, setup: PipelineSetup, tracking: Tracking | None) -> str:
    if decided is not None:
        return f"done, {decided}"
    champion = None if tracking is None else champion_version(tracking, name)
    opponent = "the random baseline" if champion is None else f"the champion, version {champion}"
    return f"if it is better than {opponent}, on split '{setup.promote.split}'"


def _index_line(
    features: FeatureSet | None, setup: PipelineSetup, tracking: Tracking | None, decided: ChampionState | None
) -> str:
    if decided is None or features is None or tracking is None:
        return f"of the champion, below {setup.index.output}"
    if decided.champion is None:
        return "nothing, without a champion"
    model = load_version(f"models:/{decided.name}/{decided.champion}", setup.training.tracking)
    own = setup.comparison(features).of_champion(tracking, decided.name, decided.champion)
    plan = plan_index(model, [own], setup.index)
    if not plan.missing and plan.is_published():
        return f"done, {len(plan.tasks)} partitions in {plan.store.uri}"
    return f"{len(plan.complete)} of {len(plan.tasks)} partitions are complete in {plan.store.uri}"

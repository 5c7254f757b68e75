"""The model card of a registered version, in Markdown: how to use it, training data, results, limits, licences.

It is the description of the version in MLflow, whose database takes 5,000 characters. It contains no path of the
machine that wrote it.
"""

from collections.abc import Mapping, Sequence

from pipelines.features.feature_set import FeatureSet
from pipelines.features.summary import summarise
from pipelines.models.tasks import OUTPUTS, WORD_FIELDS
from shan_model.model import SHAN


def model_card(
    name: str, version: int, shan: SHAN, tags: Mapping[str, str], features: FeatureSet, results: Sequence[str]
) -> str:
    """Returns the card. `tags` are the version's; `results` are paragraphs about an evaluation on `features`.

    The features must have the fingerprint of the version.
    """
    parameters = sum(p.numel() for p in shan.parameters())
    return "\n\n".join(
        [
            f"# {name} version {version}",
            f"Scores how well captions describe images. Matcher `{shan.config.matcher}`, {parameters:,} parameters.",
            "## Use",
            *_use(f"models:/{name}/{version}", tags),
            "## Training data",
            _training_data(tags, features),
            "## Results",
            *results,
            "## Limits",
            "\n".join(f"- {sentence}" for sentence in _limits(shan, tags, features)),
            "## Licences",
            f"Code: Apache-2.0. {_weights(tags)} The terms of the training data may apply to the model as well.",
        ]
    )


def stored_as(features: FeatureSet) -> str:
    """Returns the URI of exactly this feature set, or only its digest if it is in a folder."""
    return features.pinned_uri if "://" in features.uri else features.pinned_uri.rpartition("@")[2]


def _use(uri: str, tags: Mapping[str, str]) -> list[str]:
    column, more = '"image": ["photo.jpg"]', "An image is a path, a URI, bytes, base64 text, a PIL image or an array."
    mode = tags.get("detector.mode")
    if mode == "none":
        column = '"regions": [regions_RF]'
        more = "This version has no detector, because it was trained on imported features: give such features."
    elif mode == "reference":
        more += " The weights of the detector are not in the version: `load_model(..., model_config=...)` locates them."
    code = f'model = mlflow.pyfunc.load_model("{uri}")\n'
    code += f'model.predict(pd.DataFrame({{{column}, "caption": ["a dog on a beach"]}}))'
    tasks = "; ".join(f"`{task}`: {', '.join(OUTPUTS[task])}" for task in OUTPUTS if task != "score")
    words = f"Each of `words` has {', '.join(WORD_FIELDS)}."
    return [
        f"```python\nimport mlflow, pandas as pd\n\n{code}\n```",
        "It needs the packages of the version's `requirements.txt`. "
        f"It returns a score per row; higher is better. {more}",
        f'`params={{"task": "rank"}}` ranks. Tasks that return tables, and their columns: {tasks}. {words}',
    ]


def _training_data(tags: Mapping[str, str], features: FeatureSet) -> str:
    counts = ""
    if tags["feature_set"] == features.index.feature_set:
        parts = [f"{s.split} {s.written:,} photos, {s.captions:,} captions" for s in summarise(features)]
        counts = f" ({'; '.join(parts)})"
    return (
        f"Split train of data set {tags['dataset']}{counts}, feature set `{tags['feature_set'][:12]}`, regions by "
        f"detector `{features.index.detector.name}` with fingerprint `{tags['fingerprint']}`. Run `{tags['run']}` has "
        "parameters, curves and datasets."
    )


def _limits(shan: SHAN, tags: Mapping[str, str], features: FeatureSet) -> list[str]:
    found = [
        "Scores are not probabilities, and are comparable within this version only.",
        "Results hold for photos and captions like those of the training data; evaluate the model on yours.",
        "The epoch was selected on split val, so results on val are optimistic.",
    ]
    if shan.config.text_encoder == "gru":
        words = f"It knows {shan.vocabulary.num_words:,} words of the training captions"
        found.append(f"{words}; it does not distinguish others (task `explain`: `known` is false).")
    if tags.get("detector.mode") != "none":
        most = features.index.detector.region_range[1]
        found.append(f"It uses at most {most} regions of an image; what its detector does not find has no effect.")
    return found


def _weights(tags: Mapping[str, str]) -> str:
    if tags.get("detector.mode") == "none":
        return "The version has no detector."
    return f"Weights of the detector: {tags.get('detector.licence') or 'not stated, see their origin'}."

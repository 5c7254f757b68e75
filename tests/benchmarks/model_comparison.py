"""Compares variants of SHAN, its open choices and the baselines under one budget, with three seeds each by default.

    python -m tests.benchmarks.model_comparison --features URI [--objects objects.json] --output build/comparison

Trains as `jobs.train` does (local_training.py), two trainings at a time with one core each, selects the epoch on `val`
and reports `test`: the mean rSum of the seeds, and its difference to the first model's with a paired 95 % interval over
resampled photos.
A rerun does only what is missing; an interrupted training starts again.

With `objects.json` of rendered scenes, attention is scored against the known boxes by the pointing game: a word that
names exactly one object has to attend most to a region of that object.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from infra.cluster import ClusterConfig
from infra.paths import absolute
from pipelines.datasets.scenes.lexicon import SHAPE_WORDS
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.results import Evaluation
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.features.split import Split
from shan_model.bootstrap import interval
from shan_model.bundle import load_bundle
from shan_model.model import SHAN
from shan_model.vocabulary import tokenize
from tests.benchmarks import commands
from tests.benchmarks.local_training import RESULT, Trained

MODELS = {
    "SHAN-full": [],
    "SHAN-T2I": ["--model.variant=t2i"],
    "SHAN-I2T": ["--model.variant=i2t"],
    "L2L only": ["--model.levels=l2l"],
    "L2L, sums": ["--model.levels=l2l", "--model.l2l_pooling=sum"],
    "L2L, word dropout": ["--model.levels=l2l", "--train.word_dropout=0.2"],
    "L2L, xavier": ["--model.levels=l2l", "--model.affinity_init=xavier"],
    "L2L, no warm-up": ["--model.levels=l2l", "--train.hard_negative_warmup_epochs=0"],
    "L2L+G2L": ["--model.levels=l2l+g2l"],
    "VSE++": ["--model.matcher=vse++"],
    "SCAN t2i": ["--model.matcher=scan-t2i"],
    "SCAN t2i, word dropout": ["--model.matcher=scan-t2i", "--train.word_dropout=0.2"],
    "SCAN i2t": ["--model.matcher=scan-i2t"],
    "SGRAF-SGR": ["--model.matcher=sgr"],
    "TERN": ["--model.matcher=tern"],
    "TERN, mean violations": ["--model.matcher=tern", "--train.hard_negative_warmup_epochs=10"],
    "full, xavier": ["--model.affinity_init=xavier"],
    "full, scalar gate": ["--model.gate=scalar"],
    "full, cosine affinity": ["--model.affinity=cosine"],
    "full, sums in L2L": ["--model.l2l_pooling=sum"],
    "full, weak globals": ["--model.g2l_scale=0.3", "--model.g2g_scale=0.3"],
    "full, weak G2L and G2G": ["--model.g2l_scale=0.03", "--model.g2g_scale=0.3"],
    "full, word dropout": ["--train.word_dropout=0.2"],
    "full, weak G2L and G2G, word dropout": [
        "--model.g2l_scale=0.03",
        "--model.g2g_scale=0.3",
        "--train.word_dropout=0.2",
    ],
    "full, own gates": ["--model.gate_per_level=true", "--model.context_temperature=15"],
    "full, weak globals and own gates": [
        "--model.g2l_scale=0.3",
        "--model.g2g_scale=0.3",
        "--model.gate_per_level=true",
        "--model.context_temperature=15",
    ],
}
PRETRAINED_RATE = "1e-4"
"""Learning rate of pretrained text weights, a tenth of the others'."""
BUDGET = [
    "--model.joint_dim=128", "--model.word_dim=128", "--train.num_workers=1", "--train.batch_size=64",
    "--train.epochs=10", "--train.learning_rate=1e-3", "--train.lr_decay_epoch=7",
    "--train.hard_negative_warmup_epochs=1",
    "--train.checkpoint_every_n_steps=100000", "--cluster.local_object_store_mb=100",
]  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One finished training."""

    model: str
    seed: int
    trained: Trained


def with_pretrained_text(hf_model: str | None, word_vectors: str | None) -> dict[str, list[str]]:
    """Returns models with pretrained text: an encoder that trains, one that is frozen, fixed word vectors.

    The last two also with word dropout.
    """
    l2l, dropout, found = MODELS["L2L only"], MODELS["L2L, word dropout"], dict[str, list[str]]()
    if hf_model:
        encoder = ["--model.text_encoder=hf", f"--model.hf_model={hf_model}"]
        frozen = [*encoder, "--train.freeze_text_encoder=true"]
        found["L2L, text encoder"] = [*l2l, *encoder, f"--train.text_encoder_learning_rate={PRETRAINED_RATE}"]
        found["L2L, frozen text encoder"] = [*l2l, *frozen]
        found["L2L, word dropout, frozen text encoder"] = [*dropout, *frozen]
        found["SCAN t2i, frozen text encoder"] = [*MODELS["SCAN t2i"], *frozen]
    if word_vectors:
        found["L2L, word vectors"] = [*l2l, f"--train.word_vectors={word_vectors}"]
        found["L2L, word dropout, word vectors"] = [*dropout, f"--train.word_vectors={word_vectors}"]
    return found


def name_of(model: str) -> str:
    """Returns the folder of a model."""
    return model.lower().replace("+", "p").replace(", ", "-").replace(" ", "-")


def folder_of(model: str, seed: int, output: Path) -> Path:
    """Returns the folder of a training."""
    return output / name_of(model) / str(seed)


def train(model: str, seed: int, features: str, output: Path) -> Run:
    """Trains a model in a process of its own, or returns its earlier result. RuntimeError if the training fails."""
    folder = folder_of(model, seed, output)
    if not (folder / RESULT).exists():
        folder.mkdir(parents=True, exist_ok=True)
        options = [*BUDGET, *MODELS[model], f"--train.seed={seed}"]
        commands.run_command(folder, "tests.benchmarks.local_training", features, ".", *options)
        trained = Trained(**json.loads((folder / RESULT).read_text()))
        print(
            f"{model}, seed {seed}: {trained.seconds:.0f} s, rSum {trained.val_rsum:.1f} on val after epoch "
            f"{trained.epoch}",
            flush=True,
        )
    return Run(model, seed, Trained(**json.loads((folder / RESULT).read_text())))


def pointing(shan: SHAN, split: Split, objects: dict[str, dict[str, object]]) -> tuple[float, float, int]:
    """Returns the accuracy of the pointing game in percent, that of a random region, and the number of words.

    A word takes part if it names a shape that exactly one object of the photo has. It is a hit if the centre of its
    most attended region lies inside the box of that object.
    """
    hits, baseline = [], []
    for row in range(len(split)):
        found = objects[split.sources[row]]["objects"]
        boxes_R4 = split.boxes(row)
        centres_R2 = (boxes_R4[:, :2] + boxes_R4[:, 2:]) / 2
        with torch.no_grad():
            regions_BRD = shan.encode_photos(torch.from_numpy(np.array(split[row : row + 1])))
        for caption in split.meta[row]["captions"]:
            with torch.no_grad():
                (words_WD,) = shan.encode_captions([caption])
                attention_RW = shan.alignment.word_attention(regions_BRD, words_WD)[0]
            for position, word in enumerate(tokenize(caption), start=1):  # after <start>
                named = [each for each in found if word in SHAPE_WORDS[each["shape"]]]
                if len(named) != 1:
                    continue
                x0, y0, x1, y1 = named[0]["box"]
                on_R = (centres_R2 >= (x0, y0)).all(1) & (centres_R2 < (x1, y1)).all(1)
                hits.append(bool(on_R[int(attention_RW[:, position].argmax())]))
                baseline.append(float(on_R.mean()))
    return 100 * float(np.mean(hits)), 100 * float(np.mean(baseline)), len(hits)


@dataclass(frozen=True)
class Compared:
    """The trainings of one model, evaluated."""

    model: str
    evaluations: list[Evaluation]
    """One per seed."""
    seconds: float
    """Mean duration of a training."""
    pointing: list[tuple[float, float, int]]
    """What `pointing` returns for each seed; empty without known objects."""

    def mean(self, metric: str) -> float:
        """Returns the mean of a metric over the seeds."""
        return float(np.mean([evaluation.metrics[metric] for evaluation in self.evaluations]))

    def resampled_rsum(self) -> NDArray[np.float64]:
        """Returns the mean rSum of the seeds on each resample of the photos; equal resamples for each model."""
        return np.mean([evaluation.resamples["rsum"] for evaluation in self.evaluations], axis=0)


def compare(runs: Sequence[Run], features: FeatureSet, output: Path, objects: Path | None) -> Compared:
    """Evaluates the trainings of one model on `test`."""
    split = features.split("test")
    known = json.loads(objects.read_text())["photos"] if objects else None
    evaluations, points = [], []
    for run in runs:
        folder = folder_of(run.model, run.seed, output)
        shan, scores = load_bundle(folder), ScoreConfig(cache_file=str(folder / "test-scores.npy"))
        evaluations.append(evaluate(shan, run.model, split, scores, ClusterConfig()))
        if known is not None:
            points.append(pointing(shan, split, known))
    return Compared(runs[0].model, evaluations, float(np.mean([run.trained.seconds for run in runs])), points)


def spread(values: Sequence[float]) -> str:
    """Returns mean ± standard deviation of the seeds, or the value of the only one."""
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def row(one: Compared, first: Compared) -> str:
    """Returns the line of the table for a model."""
    cells = [spread([evaluation.recalls.rsum for evaluation in one.evaluations])]
    low, high = interval(one.resampled_rsum() - first.resampled_rsum())
    cells.append("" if one is first else f"{one.mean('rsum') - first.mean('rsum'):+.1f} ({low:+.1f} to {high:+.1f})")
    cells += [f"{one.mean('image_to_text_r1'):.1f}", f"{one.mean('text_to_image_r1'):.1f}", f"{one.seconds:.0f}"]
    if one.pointing:
        cells.append(spread([hit for hit, _, _ in one.pointing]))
    return f"| {one.model} | " + " | ".join(cells) + " |"


def table(compared: Sequence[Compared]) -> str:
    """Returns the models as a Markdown table; differences are to the first one."""
    first = compared[0]
    header = ["model", "rSum", f"minus {first.model}", "image-to-text R@1", "text-to-image R@1", "seconds"]
    baseline = first.evaluations[0].random_baseline
    last = [f"{baseline.rsum:.1f}", "", f"{baseline.image_to_text_r1:.1f}", f"{baseline.text_to_image_r1:.1f}", ""]
    note = ""
    if first.pointing:
        header.append("pointing")
        last.append(f"{first.pointing[0][1]:.1f}")
        note = f"\n\nPointing: {first.pointing[0][2]} words that name exactly one object of their photo."
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|", *(row(one, first) for one in compared)]
    return "\n".join([*lines, f"| random baseline | {' | '.join(last)} |"]) + note


def main(options: Sequence[str]) -> None:
    """Trains and evaluates all models and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", required=True)
    parser.add_argument("--objects", type=Path)
    parser.add_argument("--output", type=Path, default=Path("build/comparison"))
    parser.add_argument("--hf-model", type=absolute, help="adds the first level and SCAN with this text encoder")
    parser.add_argument("--word-vectors", type=absolute, help="adds the first level with these word vectors")
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args(options)
    MODELS.update(with_pretrained_text(arguments.hf_model, arguments.word_vectors))
    models: list[str] = arguments.models or list(MODELS)
    jobs: list[tuple[str, int]] = [(model, seed) for seed in arguments.seeds for model in models]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda job: train(*job, arguments.features, arguments.output), jobs))
    features = FeatureSet.open(arguments.features)
    of_model = ([run for run in runs if run.model == model] for model in models)
    print(table([compare(found, features, arguments.output, arguments.objects) for found in of_model]))


if __name__ == "__main__":
    main(sys.argv[1:])

"""The command `evaluate`: models side by side, in the terminal and in report files."""

import json
import re
import sys
from pathlib import Path

import pytest

from infra.errors import UserError
from jobs import evaluate
from pipelines.features.feature_set import FeatureSet
from tests.support.feature_sets import manifest, write_set
from tests.support.small_models import model, register_model, small_set, write_checkpoint


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return small_set(tmp_path_factory.mktemp("features"))


def run(monkeypatch: pytest.MonkeyPatch, *argv: str) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", *argv])
    evaluate.main()


def test_checkpoints_are_compared_without_a_tracking_store(features, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    uris = [write_checkpoint(tmp_path / str(steps), model(features, steps), features) for steps in (0, 20)]
    for report in ("out/r.md", "out/r.html"):
        run(monkeypatch, "--model", *uris, f"--features={features.uri}", "--split=val", f"--report={report}")
    printed = capsys.readouterr().out
    markdown, page = Path("out/r.md").read_text(), Path("out/r.html").read_text()
    assert markdown.split("\n\n", 1)[1].strip() in printed
    assert f"**{uris[1]} minus {uris[0]}**" in printed
    cells = re.findall(r"<td>(.*?)</td>", page)
    assert [c for line in markdown.splitlines() if re.match(r"\| [^-m]", line)
            for c in line.strip("| ").split(" | ")] == [c for c in cells if c]  # fmt: skip
    assert not Path("build").exists()


def test_the_run_of_a_registered_model_lists_the_split(features, tracking, tmp_path, monkeypatch, capsys):
    version = register_model(tracking, "m", model(features), features, tmp_path / "bundle")
    run_id = tracking.client().get_model_version("m", str(version)).run_id
    checkpoint = write_checkpoint(tmp_path / "best", model(features), features)
    before = tracking.client().get_run(run_id)
    for uri in ("models:/m/1", f"runs:/{run_id}"):
        options = [f"--features={features.uri}", "--split=test", f"--tracking.uri={tracking.uri}"]
        run(monkeypatch, "--model", uri, checkpoint, *options)
        assert "random baseline" in capsys.readouterr().out
    after = tracking.client().get_run(run_id)
    (logged,) = after.inputs.dataset_inputs
    assert (logged.dataset.name, logged.tags[0].value) == ("tiny test", "evaluation")
    assert json.loads(logged.dataset.profile)["photos"] == 30
    assert (after.data.to_dictionary(), after.info.status) == (before.data.to_dictionary(), "FINISHED")


def test_models_of_two_detectors_use_their_own_features(features, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    other = write_set(tmp_path, manifest(tmp_path, 150), fingerprint="made-up-4567")
    one = write_checkpoint(tmp_path / "one", model(features, 20), features)
    two = write_checkpoint(tmp_path / "two", model(other, 20), other)
    given = [f"{one}={features.uri}", two]
    with pytest.raises(UserError, match=r"split 'val' has 30 photos .* and 25 photos .* add --intersect"):
        run(monkeypatch, "--model", *given, f"--features={other.uri}", "--split=val")
    run(monkeypatch, "--model", *given, f"--features={other.uri}", "--split=val", "--intersect", "--report=r.html")
    printed = capsys.readouterr().out
    assert "**val: 25 photos, 50 captions; both directions**" in printed
    assert "\non the 25 photos that both feature sets have, of 30 and 25\n" in printed
    assert f"**{two} minus {one}**" in printed
    run(monkeypatch, "--model", f"{one}={features.uri}", "--split=val")
    assert "val: 30 photos" in capsys.readouterr().out


def test_features_and_protocol_are_checked_before_models_load(features, tmp_path, monkeypatch):
    one, two = "models:/m/1", "models:/m/2"
    with pytest.raises(UserError, match=r"^--features is missing; give it, or --model models:/m/2=URI with"):
        run(monkeypatch, "--model", f"{one}={features.uri}", two)
    with pytest.raises(UserError, match=r"^--features has no effect, because each --model names a feature set"):
        run(monkeypatch, "--model", f"{one}={features.uri}", f"--features={features.uri}")
    with pytest.raises(UserError, match=r"^--intersect has no effect with one feature set; omit it"):
        run(monkeypatch, "--model", one, two, f"--features={features.uri}", "--intersect")
    with pytest.raises(
        UserError, match=r"^--protocol is 'coco'; give one of 'f30k-1k', 'coco-1k-5fold', 'coco-5k'; see"
    ):
        run(monkeypatch, "--model", one, f"--features={features.uri}", "--protocol=coco")


@pytest.mark.parametrize(
    ("option", "message"),
    [("--report=r.pdf", "end the name in .md"), ("--ensemble=best", "^--ensemble names 1 model; give at least two")],
)
def test_errors_name_the_option(features, monkeypatch, option, message):
    with pytest.raises(UserError, match=message):
        run(monkeypatch, "--model=best", f"--features={features.uri}", "--split=val", option)


def test_models_are_missing(features, monkeypatch):
    with pytest.raises(UserError, match=r"^--model is missing; give it, or --ensemble"):
        run(monkeypatch, f"--features={features.uri}")


def test_ensemble_follows_its_members(features, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    one, two, three = (write_checkpoint(tmp_path / str(n), model(features, 3, n), features) for n in (1, 2, 3))
    options = [f"--features={features.uri}", "--split=val", "--score.cache_file=s.npy", "--report=r.md"]
    run(monkeypatch, "--model", three, two, "--ensemble", one, two, *options)
    members, *tables = capsys.readouterr().out.strip().split("\n\n**")
    assert re.fullmatch(
        r"\*\*ensemble: mean of the scores of 2 models\*\*\n\n.*"
        rf"\| {two} \| vse\+\+ \| [0-9a-f]{{12}} \|\n\| {one} \| vse\+\+ \| [0-9a-f]{{12}} \|", members, re.S
    )  # fmt: skip
    assert re.findall(r"^\| (\S+) \| \d+\.\d \(", tables[2], re.M) == [three, two, one, "ensemble"]
    assert tables[-1].startswith(f"ensemble minus {three}**")
    assert "mean of the scores of 2 models" in Path("r.md").read_text()
    assert {path.name for path in tmp_path.glob("*.npy")} == {"s-model1.npy", "s-model2.npy", "s-model3.npy"}

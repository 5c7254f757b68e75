"""The command lines of import and export: what they take, what they print."""

from pathlib import Path

import pytest

from infra.errors import UserError
from jobs import cli
from jobs.features_precomputed import add_export_arguments, add_import_arguments, run_export, run_import
from pipelines.features.feature_set import FeatureSet
from pipelines.serving.search_page import write_search_page
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.support.precomputed import Photo, karpathy_file, scan_folder


def run(*argv: str) -> None:
    if argv[0] == "import":
        run_import(*cli.parse("features import", "d", add_import_arguments, ("extract",), list(argv[1:])))
    else:
        run_export(cli.parse("features export", "d", add_export_arguments, (), list(argv[1:]))[0])


def test_a_scan_folder_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = scan_folder(tmp_path / "in", {"train": 5, "test": 2})
    run("import", "--format", "scan", str(source), f"{tmp_path}/out", "--extract.photos_per_shard", "2")
    printed = capsys.readouterr().out.splitlines()
    assert printed[1] == "  7 photos planned = 7 written + 0 rejected, in 4 shards (4 written now, 0 reused)"
    run("export", printed[0], f"{tmp_path}/back")
    assert capsys.readouterr().out == f"{tmp_path}/back: 5 train, 2 test photos in SCAN's layout\n"
    assert (tmp_path / "back" / "train_ims.npy").read_bytes() == (source / "train_ims.npy").read_bytes()


def test_a_tsv(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    dataset = karpathy_file(tmp_path / "d.json", {"1.jpg": "train", "2.jpg": "train"})
    (tmp_path / "a.tsv").write_text(Photo("1").six() + Photo("9").six())
    run("import", "--format=tsv", f"{tmp_path}/a.tsv", f"{tmp_path}/out", "--dataset", str(dataset))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  2 photos planned = 1 written + 1 rejected, in 1 shards (1 written now, 0 reused)",
        "  rejected 1 x 'no row of the TSV is of this photo'",
        f"  first 2.jpg; all of them in {next((tmp_path / 'out').iterdir())}/quarantine.parquet",
        "  1 of 2 rows are of photos that the data set does not name; left out",
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("a", "b"), "format"),
        (("--format", "npz", "a", "b"), "npz"),
        (("--format", "scan", "a"), "URI|uri"),
        (("--format", "tsv", "a", "b"), "--dataset is not given"),
        (("--format", "scan", "/nowhere", "b"), "/nowhere: no train_ims"),
    ],
)
def test_what_cannot_be_imported(argv: tuple[str, ...], message: str):
    with pytest.raises(UserError, match=message):
        run("import", *argv)


def test_a_search_page_of_features_without_boxes_or_photos(tmp_path: Path):
    run("import", "--format=scan", str(scan_folder(tmp_path / "in", {"test": 2})), f"{tmp_path}/out")
    features = FeatureSet.open(str(next((tmp_path / "out").iterdir())))
    config = ModelConfig(region_dim=8, joint_dim=8, word_dim=8)
    shan = SHAN(config, Vocabulary.build(["a dog"])).eval()
    write_search_page(tmp_path / "page.html", "t", shan, features, features.split("test"), {"a dog": [(0, 0.5)]})
    assert "test0.jpg" in (tmp_path / "page.html").read_text()

"""The data set card of a feature set."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pipelines.datasets.manifest import Manifest, Photo
from pipelines.features.card import data_card
from tests.support.feature_sets import manifest, write_set


def test_card_describes_feature_set_and_its_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    features = write_set(tmp_path, manifest(tmp_path))
    card = (Path(features.uri) / "README.md").read_text(encoding="utf-8")
    assert data_card(features.index, manifest(tmp_path), "license: unknown").decode() == card
    _, header, text = card.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "pretty_name": "tiny",
        "license": "unknown",
        "tags": ["webdataset", "region-features", "image-text-matching"],
        "size_categories": ["n<1K"],
    }
    assert "| train | 3 | 1 | 8 | 2 |" in text
    assert features.index.feature_set in text
    assert "3 regions of 8 numbers for each of 5 photos" in text
    code = text.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(features.uri)
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - the code that the card shows
    lines = capsys.readouterr().out.splitlines()
    assert "p0 (3, 8) ['a photo of 0', 'number 0 <again>']" in lines
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("sources", "origins"),
    [
        (["a.jpg", "b/c.jpg"], "`{root}`"),
        (["http://h:80/a.jpg", "http://h:80/b/c.jpg?x=1", "https://g/a.jpg"], "`http://h:80`, `https://g`"),
        (["a.jpg", "s3://bucket/x/a.jpg", "s3://bucket/y.jpg"], "`s3://bucket`, `{root}`"),
        (["tar://x/a.jpg::/data/t.tar", "parquet://image/0::s3://bucket/d.parquet"], "`/data/t.tar`, `s3://bucket`"),
        (
            [f"http://{n % 7}/{n}" for n in range(15)],
            "7 servers and folders, such as `http://0`, `http://1`, `http://2`",
        ),
    ],
)
def test_a_card_names_the_origins_of_photos(tmp_path: Path, sources: list[str], origins: str):
    features = write_set(tmp_path, manifest(tmp_path))
    photos = (Photo(f"p{number}", source, "train", ()) for number, source in enumerate(sources))
    of_uris = Manifest.build("tiny", str(tmp_path), photos)
    card = data_card(features.index, of_uris, "license: unknown").decode()
    assert f"Photos from {origins.format(root=tmp_path)}" in card


def test_a_single_photo_is_in_the_singular(tmp_path: Path):
    features = write_set(tmp_path, manifest(tmp_path))
    shard = replace(features.index.shards[0], written=1, rejected=1)
    index = replace(features.index, shards=(shard,))
    card = data_card(index, manifest(tmp_path), "license: unknown").decode()
    assert "3 regions of 8 numbers for each of 1 photo, in 1 WebDataset tar." in card
    assert "1 photo could not be used" in card


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("stated", ["license: cc-by-4.0", "license:\n- mit\n- cc-by-4.0", "license: 'other'"])
def test_a_stated_license_is_kept_and_the_rest_written_again(tmp_path: Path, stated: str, newline: str):
    features = write_set(tmp_path, manifest(tmp_path))
    path = Path(features.uri) / "README.md"
    new = path.read_text()
    edited = new.replace("license: unknown", stated).replace("## Source", "## Edited\nlicense: of the text")
    path.write_text(edited, newline=newline)
    write_set(tmp_path, manifest(tmp_path))
    assert path.read_text() == new.replace("license: unknown", stated)
    write_set(tmp_path, manifest(tmp_path, 12))
    assert yaml.safe_load(path.read_text().split("---\n")[1])["license"] == yaml.safe_load(stated)["license"]


@pytest.mark.parametrize("edited", ["", "no header", "---\npretty_name: x\n---\nlicense: of the text\n"])
def test_without_a_stated_license_it_is_unknown(tmp_path: Path, edited: str):
    features = write_set(tmp_path, manifest(tmp_path))
    path = Path(features.uri) / "README.md"
    new = path.read_text()
    path.write_text(edited)
    write_set(tmp_path, manifest(tmp_path))
    assert path.read_text() == new

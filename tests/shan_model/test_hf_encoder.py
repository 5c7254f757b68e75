"""Tests of the Hugging Face text encoder with a tiny BERT with random weights, without network."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from shan_model.blocks import cut_blocks
from shan_model.bundle import FILES, HF_FILES, load_bundle, save_bundle
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.objective import RankingObjective
from shan_model.scoring import score_matrix
from shan_model.vocabulary import Vocabulary
from tests.support import ROOT
from tests.support.tiny_bert import PIECES, POSITIONS, write_tiny_bert

CAPTIONS = ["A dog runs", "two cats running, the dog running", "", "犬 \ud800", "dog " * 500]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("hub") / "tiny")


def build(folder: Path, **fields) -> SHAN:
    torch.manual_seed(1)
    config = ModelConfig(region_dim=12, joint_dim=8, text_encoder="hf", hf_model=str(folder), **fields)
    return SHAN(config, Vocabulary.build(["a dog"])).eval()


def pieces(*names):
    return torch.tensor([[PIECES.index(name) for name in names]])


def test_words_are_the_projected_last_hidden_states(folder):
    from transformers import BertModel

    shan, bert = build(folder), BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        (words_WD,) = shan.encode_captions(["A dog runs"])
        hidden_WH = bert(pieces("[CLS]", "a", "dog", "run", "##s", "[SEP]")).last_hidden_state[0].numpy()
    project = {name: value.numpy() for name, value in shan.text_encoder.project.state_dict().items()}
    expected = hidden_WH @ project["weight"].T + project["bias"]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(words_WD.numpy(), expected, atol=1e-6)


def test_a_token_per_row_and_long_captions_truncated(folder):
    shan = build(folder)
    tokens = [shan.text_encoder.tokens(caption) for caption in CAPTIONS]
    assert tokens[0] == ["[CLS]", "a", "dog", "run", "##s", "[SEP]"]
    assert tokens[2] == ["[CLS]", "[SEP]"]
    assert tokens[4] == ["[CLS]", *["dog"] * (POSITIONS - 2), "[SEP]"]
    assert [len(words) for words in shan.encode_captions(CAPTIONS)] == [len(words) for words in tokens]
    assert shan.text_encoder.tokens("a zebra") == ["[CLS]", "a", "[UNK]", "[SEP]"]
    assert shan.text_encoder.known("a zebra") == [True, True, False, True]


def test_the_smaller_limit_of_tokenizer_and_positions_applies(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "short")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (tmp_path / "short" / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 9}))
    (words_WD,) = build(tmp_path / "short").encode_captions(["dog " * 500])
    assert len(words_WD) == 9


def test_positions_after_a_padding_index_are_counted_correctly(tmp_path):
    """RoBERTa's first position is pad_token_id + 1, so 24 positions with padding index 1 hold 22 tokens."""
    from transformers import RobertaConfig, RobertaModel

    folder = write_tiny_bert(tmp_path / "tiny")
    bert = json.loads((folder / "config.json").read_text())
    fields = {"vocab_size": len(PIECES), "max_position_embeddings": POSITIONS, "pad_token_id": 1}
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    RobertaModel(RobertaConfig(**fields, **{name: bert[name] for name in sizes})).save_pretrained(folder)
    (words_WD, short_WD) = build(folder).encode_captions(["dog " * 500, "cats"])
    assert (len(words_WD), len(short_WD)) == (POSITIONS - 2, 3)


def test_encodings_do_not_depend_on_longer_captions_in_the_batch(folder):
    shan = build(folder).double()
    many = CAPTIONS * 60  # more than go through at once
    with torch.no_grad():
        for caption, words in zip(many, shan.encode_captions(many), strict=True):
            torch.testing.assert_close(words, shan.encode_captions([caption])[0], rtol=0, atol=1e-12)


def test_padding_gets_no_gradient(folder):
    shan = build(folder)
    sum(words[:, 0].sum() for words in shan.encode_captions(CAPTIONS)).backward()
    slopes = shan.text_encoder.encoder.embeddings.word_embeddings.weight.grad
    assert slopes[PIECES.index("dog")].any()
    assert not slopes[PIECES.index("[PAD]")].any()


def test_every_weight_gets_a_gradient(folder):
    """DDP waits for the gradient of each weight; BERT's pooler, which is removed, would not get one."""
    shan = build(folder).train()
    loss = RankingObjective(shan, 0.2)(torch.randn(3, 4, 12), CAPTIONS[:3], torch.arange(3), True)
    loss.backward()
    assert [name for name, p in shan.named_parameters() if p.grad is None] == []


def test_normalisation_can_be_disabled(folder):
    shan = build(folder, normalize=False)
    (words_WD,) = shan.encode_captions(["a dog"])
    hidden = shan.text_encoder.encoder(pieces("[CLS]", "a", "dog", "[SEP]")).last_hidden_state[0]
    torch.testing.assert_close(words_WD, shan.text_encoder.project(hidden))


def test_blocks_are_formed_by_the_encoders_own_tokens(folder):
    shan, regions = build(folder), np.random.default_rng(0).normal(size=(3, 4, 12)).astype(np.float32)
    captions = ["running running running", "a dog the dog a", "dog"]  # 3, 5 and 1 words are 8, 7 and 3 tokens
    assert cut_blocks(shan, regions, captions, 2**30).order.tolist() == [2, 1, 0]
    with torch.no_grad():
        expected = shan(torch.from_numpy(regions), captions).numpy()
    np.testing.assert_allclose(score_matrix(shan, regions, captions), expected, atol=1e-5)


def test_half_precision_weights_are_converted_to_float32(tmp_path):
    from transformers import BertModel

    folder = write_tiny_bert(tmp_path / "tiny")
    BertModel.from_pretrained(folder).half().save_pretrained(folder)
    shan = build(folder)
    save_bundle(shan, tmp_path / "bundle")
    for model in (shan, load_bundle(tmp_path / "bundle")):
        assert {p.dtype for p in model.parameters()} == {torch.float32}


LOAD_WITHOUT_NETWORK = """
import sys
from pathlib import Path
def guard(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        print("asked the network:", event, arguments, file=sys.stderr)
        raise SystemExit(3)
sys.addaudithook(guard)
import torch
from safetensors.torch import save_file
from shan_model.bundle import load_bundle
shan = load_bundle(Path(sys.argv[1]))
assert not shan.training
regions = torch.linspace(-1, 1, 2 * 3 * 12).reshape(2, 3, 12)
torch.set_num_threads(1)
with torch.no_grad():
    save_file({"scores": shan(regions, ["A dog runs", "", "two cats"])}, sys.argv[2])
"""


@pytest.mark.parametrize("offline", [{}, pytest.param({"HF_HUB_OFFLINE": "1"}, marks=pytest.mark.long)])
def test_a_bundle_encodes_identically_without_network(offline, tmp_path):
    folder = write_tiny_bert(tmp_path / "tiny")
    shan = build(folder)
    save_bundle(shan, tmp_path / "bundle")
    shutil.rmtree(folder)
    found = {str(path.relative_to(tmp_path / "bundle")) for path in (tmp_path / "bundle").rglob("*") if path.is_file()}
    assert found == {*FILES, *HF_FILES}
    environment = {**os.environ, "HF_HOME": str(tmp_path / "empty"), "PYTHONPATH": str(ROOT), **offline}
    command = [sys.executable, "-c", LOAD_WITHOUT_NETWORK, str(tmp_path / "bundle"), str(tmp_path / "scores")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    regions = torch.linspace(-1, 1, 2 * 3 * 12).reshape(2, 3, 12)
    with torch.no_grad():
        expected = shan(regions, ["A dog runs", "", "two cats"])
    assert torch.equal(load_file(tmp_path / "scores")["scores"], expected)


def test_a_bundle_without_a_tokenizer_is_refused_offline(folder, tmp_path):
    save_bundle(build(folder), tmp_path)
    shutil.rmtree(tmp_path / "text_encoder")
    with pytest.raises(ValueError, match=r"text_encoder.* cannot be loaded"):
        load_bundle(tmp_path)


def test_without_transformers_the_error_names_the_extra(tmp_path, folder):
    """Runs a new interpreter in which the import fails as if the package were missing."""
    save_bundle(build(folder), tmp_path)
    code = "import sys; sys.modules['transformers'] = None\nfrom pathlib import Path\n"
    code += "from shan_model.bundle import load_bundle\nload_bundle(Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "needs the package transformers; install it: pip install" in done.stderr
    assert "shan-line[hf]" in done.stderr


def test_a_pickle_of_weights_is_never_read(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").unlink()
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "old" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"old' cannot be loaded .*safetensors.*; give a folder or hub name"):
        build(tmp_path / "old")


def test_code_of_a_model_is_never_run(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "own")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (tmp_path / "own" / "config.json").write_text(json.dumps(config))
    (tmp_path / "own" / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ValueError, match=r"trust_remote_code|own"):
        build(tmp_path / "own")
    assert not (tmp_path / "ran").exists()


def test_incomplete_weights_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "part")
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if name.endswith("layer.1.output.dense.weight"))
    del weights[lost]
    save_file(weights, tmp_path / "part" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weight tensors, the first .*layer\.1\.output\.dense\.weight"):
        build(tmp_path / "part")


def test_other_kinds_of_models_are_refused(tmp_path):
    from transformers import T5Config, T5Model

    folder = write_tiny_bert(tmp_path / "t5")
    config = T5Config(vocab_size=len(PIECES), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5Model(config).save_pretrained(folder)
    with pytest.raises(ValueError, match="t5, not a text encoder; use one such as BERT"):
        build(folder)


@pytest.mark.parametrize("name", ["/no/such/folder", "no/such/folder/here"])
def test_a_missing_model_is_named(name):
    with pytest.raises(ValueError, match=f"model.hf_model '{name}' cannot be loaded .*; give a folder or hub name"):
        build(Path(name))

"""A BERT of two layers with random weights and a small WordPiece tokenizer, in the layout of the Hugging Face hub."""

from pathlib import Path

import torch

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "two", "cats", "run", "##s", "##ning", "the"]
POSITIONS = 24


def write_tiny_bert(folder: Path, seed: int = 0, **fields) -> Path:
    """Writes a model and its tokenizer and returns the folder. `fields` are fields of BertConfig."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(**{"vocab_size": len(PIECES), "max_position_embeddings": POSITIONS, **sizes, **fields})
    BertModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Writes a lower-case WordPiece tokenizer that adds [CLS] and [SEP]."""
    from transformers import BertTokenizerFast

    (folder / "vocab.txt").write_text("\n".join(PIECES), encoding="utf-8")
    BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    (folder / "vocab.txt").unlink()

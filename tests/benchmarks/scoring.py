"""All pairs: the block form against the plain form and SCAN's loop, what bounds it, and whole test splits."""

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from shan_model import native
from shan_model.alignment import Alignment
from shan_model.baselines.scan import SCAN
from shan_model.batched_alignment import BatchedAlignment
from shan_model.config import ModelConfig
from shan_model.scoring import cut_blocks, score_blocks
from tests.benchmarks.inputs import FEATURES, REGIONS, D, encoded, network, sentences
from tests.benchmarks.measure import Row, seconds, threads
from tests.benchmarks.peers import scan_loop

PHOTOS, CAPTIONS, PLAIN_CAPTIONS = 128, 260, 8


def forms(**fields: object) -> tuple[Alignment, BatchedAlignment]:
    """The plain form and the block form with the same weights."""
    torch.manual_seed(0)
    config = ModelConfig(**fields)  # type: ignore[arg-type]
    plain, fast = Alignment(config), BatchedAlignment(config)
    fast.load_state_dict(plain.state_dict())
    return plain, fast


@torch.no_grad()
def rows() -> Iterator[Row]:
    """Every figure of this file."""
    regions, words = encoded(PHOTOS, CAPTIONS)
    cores = torch.get_num_threads()
    with threads(1):
        yield from _full(regions, words)
        yield from _scalar_gate(regions, words)
        yield from _local_only(regions, words)
        yield from _bounds(regions, words)
    with threads(cores):
        yield from _whole_splits(cores)


def _full(regions: Tensor, words: list[Tensor]) -> Iterator[Row]:
    plain, fast = forms()
    few = words[:PLAIN_CAPTIONS]
    photos, captions = fast.photo_groups(regions), fast.caption_groups(words)
    by_plain, by_block, by_bf16 = seconds(
        lambda: plain(regions, few),
        lambda: fast.score_block(photos, captions),
        lambda: fast.score_block(photos, captions, torch.bfloat16),
    )
    a_pair = [1e6 * s / PHOTOS for s in (by_plain / len(few), by_block / CAPTIONS, by_bf16 / CAPTIONS)]
    exact, rough = fast.score_block(photos, captions), fast.score_block(photos, captions, torch.bfloat16)
    error = (plain(regions, few) - exact[:, : len(few)]).abs().max().item()
    yield Row("SHAN-full, plain form, one thread", a_pair[0], "us a pair")
    yield Row("SHAN-full, block form, float32", a_pair[1], "us a pair")
    yield Row("SHAN-full, block form, bf16 products", a_pair[2], "us a pair")
    yield Row("SHAN-full: block form against plain form, float32", a_pair[0] / a_pair[1], "x", 20)
    yield Row("SHAN-full: block form with bf16 products against plain form", a_pair[0] / a_pair[2], "x", 30)
    yield Row("SHAN-full: largest difference between the forms, float32", error, "", 1e-5, "lower")
    yield Row("bf16: largest difference of a score", (exact - rough).abs().max().item(), "")


def _scalar_gate(regions: Tensor, words: list[Tensor]) -> Iterator[Row]:
    times = []
    for gate in ("vector", "scalar"):
        _, fast = forms(gate=gate)
        photos, captions = fast.photo_groups(regions), fast.caption_groups(words)
        times += seconds(lambda p=photos, c=captions, f=fast: f.score_block(p, c), rounds=2)
    yield Row("scalar gate against vector gate, block form", times[0] / times[1], "x")


def _local_only(regions: Tensor, words: list[Tensor]) -> Iterator[Row]:
    few = words[:PLAIN_CAPTIONS]
    for variant, name in (("t2i", "words ask, as in SCAN's loop"), ("full", "both directions")):
        plain, fast = forms(levels="l2l", variant=variant)
        photos, captions = fast.photo_groups(regions), fast.caption_groups(words)
        by_loop, by_plain, by_block, by_bf16 = seconds(
            lambda: scan_loop(regions, few),
            lambda f=plain: f(regions, few),
            lambda f=fast, p=photos, c=captions: f.score_block(p, c),
            lambda f=fast, p=photos, c=captions: f.score_block(p, c, torch.bfloat16),
        )
        loop, alone = (1e6 * s / PHOTOS / len(few) for s in (by_loop, by_plain))
        block, rough = (1e6 * s / PHOTOS / CAPTIONS for s in (by_block, by_bf16))
        yield Row(f"SCAN's loop, word to region, beside: {name}", loop, "us a pair")
        yield Row(f"L2L alone, {name}, block form", block, "us a pair")
        yield Row(f"L2L alone, {name}: block form against SCAN's loop, float32", loop / block, "x", 12)
        yield Row(f"L2L alone, {name}: block form against SCAN's loop, bf16 products", loop / rough, "x", 12)
        yield Row(f"L2L alone, {name}: block form against plain form, float32", alone / block, "x")
    yield from _scan(regions, words)


def _scan(regions: Tensor, words: list[Tensor]) -> Iterator[Row]:
    """SCAN itself, as a baseline of the tree, against its published loop: one product a block."""
    ours, few = SCAN(ModelConfig(matcher="scan-t2i", scan_pooling="lse")), words[:PLAIN_CAPTIONS]
    photos, captions = ours.photo_groups(regions), ours.caption_groups(words)
    by_loop, by_block = seconds(lambda: scan_loop(regions, few), lambda: ours.score_block(photos, captions))
    yield Row("SCAN t2i: block form against its loop, float32", by_loop / len(few) * CAPTIONS / by_block, "x")


def _bounds(regions: Tensor, words: list[Tensor]) -> Iterator[Row]:
    """What a pair of SHAN-full costs at least: its two products of blocks, its gates, and their sigmoids by torch."""
    _, fast = forms()
    photos, captions = fast.photo_groups(regions), fast.caption_groups(words)
    rows_RD, rows_WD = regions[:64].flatten(0, 1), torch.cat(words[:32])
    pairs = 64 * 32
    rough_RD, rough_WD = rows_RD.bfloat16(), rows_WD.bfloat16()
    product, rough = seconds(lambda: rows_RD @ rows_WD.T, lambda: rough_RD @ rough_WD.T)
    flops = 2 * rows_RD.numel() * len(rows_WD)
    a_pair_of_rows = torch.randn(50, D)  # 36 regions and 14 words
    (sigmoid,) = seconds(lambda: torch.sigmoid(a_pair_of_rows), rounds=50)
    big, there = torch.randn(64 << 20), torch.empty(64 << 20)
    (copy,) = seconds(lambda: there.copy_(big))
    gate = _gates(photos, captions)
    whole = seconds(lambda: fast.score_block(photos, captions))[0] / PHOTOS / CAPTIONS
    yield Row("products of a block, float32", flops / product / 1e9, "GFLOP/s")
    yield Row("products of a block, bf16", flops / rough / 1e9, "GFLOP/s")
    yield Row("memory copy", 2 * big.numel() * 4 / copy / 1e9, "GB/s")
    yield Row("share of a pair: the two products, float32", 100 * 2 * product / pairs / whole, "%")
    yield Row("share of a pair: contexts of both sides (mix, sigmoid, fuse, pool, attend)", 100 * gate / whole, "%")
    yield Row("share of a pair: 51,200 sigmoids alone, by torch", 100 * sigmoid / whole, "%")
    mixing = 2 * 2 * 2 * REGIONS * 14 * D  # two mixes of 36 x 14 x D on either side, two operations each
    yield Row("contexts: their mixing products alone", mixing / gate / 1e9, "GFLOP/s")


def _gates(photos: list, captions: list) -> float:
    """Seconds a pair of both sides' contexts, compiled, over the captions of one length."""
    photo, caption = photos[0].items, captions[len(captions) // 2].items
    many, few = len(photo.local), len(caption.local)
    pool_D = torch.randn(D) / D**0.5
    words, vectors = caption.local.shape[1], photo.local.shape[1]
    alpha = torch.rand(many, few, vectors, words).softmax(dim=-1)
    beta = torch.rand(many, few, words, vectors).softmax(dim=-1)
    image = photo.channels, photo.query_gate, caption.channels, caption.key_gate, caption.norms
    text = caption.channels, caption.query_gate, photo.channels, photo.key_gate, photo.norms
    both = seconds(
        lambda: (
            native.context(*image, alpha, alpha[..., 0], pool_D, query_axis=0),
            native.context(*text, beta, beta[..., 0], pool_D, query_axis=1),
        )
    )
    return both[0] / many / few


def _whole_splits(cores: int) -> Iterator[Row]:
    """A slice of each test split through `score_blocks`, from features in memory and sentences: encoders included."""
    model = network().eval()
    for name, photos, captions, part in (("Flickr30K", 1000, 5000, 0.04), ("COCO 5K", 5000, 25000, 0.002)):
        strip, run = round(photos * part**0.5), round(captions * part**0.5)
        features = np.random.default_rng(0).standard_normal((strip, REGIONS, FEATURES), dtype=np.float32)
        texts = sentences(run)
        blocks = cut_blocks(model, features, texts, 2 << 30)
        wanted = {(i, j) for i in range(blocks.shape[0]) for j in range(blocks.shape[1])}
        start = time.perf_counter()
        done = sum(scores.size for _, _, scores in score_blocks(model, features, texts, blocks, wanted))
        spent = time.perf_counter() - start
        size = f"{photos:,} x {captions:,}"
        yield Row(f"{name} ({size}): slice of {strip} x {run}, {cores} threads", done / spent, "pairs/s")
        yield Row(f"{name} ({size}): extrapolated from that slice", photos * captions / done * spent / 60, "minutes")

"""All-pairs scoring: the batched implementation against the reference and SCAN's loop, its bottlenecks, test splits."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from shan_model import native
from shan_model.alignment import Alignment
from shan_model.baselines.scan import SCAN
from shan_model.batched_alignment import BatchedAlignment
from shan_model.batched_matcher import Group
from shan_model.blocks import cut_blocks
from shan_model.config import ModelConfig
from shan_model.scoring import score_blocks
from tests.benchmarks.inputs import encoded, network, sentences
from tests.benchmarks.measure import seconds, threads
from tests.benchmarks.peers import scan_loop
from tests.benchmarks.report import Benchmark, Measurement, within
from tests.benchmarks.sizes import Sizes

SPLITS = {"Flickr30K": (1000, 5000, 1.0), "COCO 5K": (5000, 25_000, 0.05)}
"""Photos and captions of the test splits, and the factor on `Sizes.split_fraction`."""
UNIT = "us per pair"


def implementations(sizes: Sizes, **fields: object) -> tuple[Alignment, BatchedAlignment]:
    """The reference and the batched implementation with the same weights."""
    torch.manual_seed(0)
    config = ModelConfig(joint_dim=sizes.joint_dim, **fields)  # type: ignore[arg-type]
    reference, batched = Alignment(config), BatchedAlignment(config)
    batched.load_state_dict(reference.state_dict())
    return reference, batched


def benchmarks(sizes: Sizes) -> list[Benchmark]:
    """The benchmarks of this file; all but those of the test splits run on one thread."""
    measurements = {
        "SHAN-full": _full,
        "scalar gate": _scalar_gate,
        "L2L alone, t2i": lambda s: _local_only(s, "t2i"),
        "L2L alone, both directions": lambda s: _local_only(s, "full"),
        "SCAN": _scan,
        "bottlenecks of SHAN-full": _bottlenecks,
    }
    found = [Benchmark(name, lambda rows=rows: _on_one_thread(rows(sizes))) for name, rows in measurements.items()]
    return [*found, *(Benchmark(name, lambda name=name: _split(name, sizes)) for name in SPLITS)]


def _on_one_thread(rows: Iterator[Measurement]) -> Iterator[Measurement]:
    with threads(1), torch.no_grad():
        measured = list(rows)
    yield from measured


def _full(sizes: Sizes) -> Iterator[Measurement]:
    (reference, batched), (regions, words) = implementations(sizes), _inputs(sizes)
    few = words[: sizes.reference_captions]
    photos, captions = batched.photo_groups(regions), batched.caption_groups(words)
    by_reference, by_batched, by_bf16 = seconds(
        lambda: reference(regions, few),
        lambda: batched.score_block(photos, captions),
        lambda: batched.score_block(photos, captions, torch.bfloat16),
        rounds=sizes.rounds,
    )
    peer = 1e6 * by_reference / len(regions) / len(few)
    fp32, bf16 = (1e6 * s / len(regions) / len(words) for s in (by_batched, by_bf16))
    name = "SHAN-full, batched implementation"
    yield Measurement(f"{name}, float32, one thread", fp32, UNIT, "reference implementation", peer, "lower", 30)
    yield Measurement(f"{name}, bf16 products, one thread", bf16, UNIT, "reference implementation", peer, "lower", 60)
    exact = batched.score_block(photos, captions)
    rounded = batched.score_block(photos, captions, torch.bfloat16)
    difference = (reference(regions, few) - exact[:, : len(few)]).abs().max().item()
    yield within(f"{name}, float32: largest difference to the reference", difference, 1e-5)
    yield Measurement(f"{name}, bf16 products: largest difference to float32", (exact - rounded).abs().max().item(), "")


def _scalar_gate(sizes: Sizes) -> Iterator[Measurement]:
    regions, words = _inputs(sizes)
    times = []
    for gate in ("vector", "scalar"):
        _, batched = implementations(sizes, gate=gate)
        photos, captions = batched.photo_groups(regions), batched.caption_groups(words)
        (spent,) = seconds(lambda p=photos, c=captions, b=batched: b.score_block(p, c), rounds=sizes.rounds)
        times.append(1e6 * spent / len(regions) / len(words))
    yield Measurement("SHAN-full with a scalar gate", times[1], UNIT, "vector gate", times[0], "lower")


def _local_only(sizes: Sizes, variant: str) -> Iterator[Measurement]:
    """L2L alone against SCAN's loop, which computes one direction with one product."""
    (reference, batched), (regions, words) = implementations(sizes, levels="l2l", variant=variant), _inputs(sizes)
    few = words[: sizes.reference_captions]
    photos, captions = batched.photo_groups(regions), batched.caption_groups(words)
    by_loop, by_reference, by_batched, by_bf16 = seconds(
        lambda: scan_loop(regions, few),
        lambda: reference(regions, few),
        lambda: batched.score_block(photos, captions),
        lambda: batched.score_block(photos, captions, torch.bfloat16),
        rounds=sizes.rounds,
    )
    loop, alone = (1e6 * s / len(regions) / len(few) for s in (by_loop, by_reference))
    fp32, bf16 = (1e6 * s / len(regions) / len(words) for s in (by_batched, by_bf16))
    name = f"L2L alone, {'word queries' if variant == 't2i' else 'both directions'}, batched"
    yield Measurement(f"{name}, float32", fp32, UNIT, "SCAN's loop, word to region", loop, "lower", 12)
    yield Measurement(f"{name}, bf16 products", bf16, UNIT, "SCAN's loop, word to region", loop, "lower", 12)
    yield Measurement(f"{name}, float32", fp32, UNIT, "reference implementation", alone, "lower")


def _scan(sizes: Sizes) -> Iterator[Measurement]:
    """The project's SCAN baseline, batched, against the loop of SCAN's published code."""
    regions, words = _inputs(sizes)
    scan = SCAN(ModelConfig(joint_dim=sizes.joint_dim, matcher="scan-t2i", scan_pooling="lse"))
    few = words[: sizes.reference_captions]
    photos, captions = scan.photo_groups(regions), scan.caption_groups(words)
    by_loop, by_batched = seconds(
        lambda: scan_loop(regions, few), lambda: scan.score_block(photos, captions), rounds=sizes.rounds
    )
    ours, loop = 1e6 * by_batched / len(regions) / len(words), 1e6 * by_loop / len(regions) / len(few)
    yield Measurement("SCAN t2i, batched, float32", ours, UNIT, "SCAN's loop", loop, "lower")


def _bottlenecks(sizes: Sizes) -> Iterator[Measurement]:
    """Parts of a pair's time: the two products of a block, both sides' contexts, the sigmoids of the gates."""
    (_, batched), (regions, words) = implementations(sizes), _inputs(sizes)
    photos, captions = batched.photo_groups(regions), batched.caption_groups(words)
    pair = seconds(lambda: batched.score_block(photos, captions), rounds=sizes.rounds)[0] / len(regions) / len(words)
    few, some = regions[:64], words[:32]
    rows_RD, rows_WD = few.flatten(0, 1), torch.cat(some)
    rounded_RD, rounded_WD = rows_RD.bfloat16(), rows_WD.bfloat16()
    contexts = _context_seconds(photos, captions, sizes)
    per_channel = torch.randn(sizes.regions + 14, sizes.joint_dim)  # a pair's regions and its mean of 14 words
    product, bf16, sigmoid = seconds(
        lambda: rows_RD @ rows_WD.T,
        lambda: rounded_RD @ rounded_WD.T,
        lambda: torch.sigmoid(per_channel),
        rounds=10 * sizes.rounds,
    )
    big, target = torch.randn(sizes.copied_floats), torch.empty(sizes.copied_floats)
    (copy,) = seconds(lambda: target.copy_(big), rounds=sizes.rounds)
    gflop, pairs = 2 * rows_RD.numel() * len(rows_WD) / 1e9, len(few) * len(some)
    mixing = 2 * 2 * 2 * sizes.regions * 14 * sizes.joint_dim / 1e9  # two mixes of R x W x D a side
    yield Measurement("products of a block, bf16", gflop / bf16, "GFLOP/s", "float32", gflop / product)
    yield Measurement(
        "mixing products of the contexts", mixing / contexts, "GFLOP/s", "products of a block", gflop / product
    )
    yield Measurement("memory copy", 2 * 4 * big.numel() / copy / 1e9, "GB/s")
    pair_s = {"peer": "all of a pair", "peer_value": 1e6 * pair, "better": "lower"}
    yield Measurement("the two products of a pair, float32", 2e6 * product / pairs, "us", **pair_s)
    yield Measurement("contexts of a pair (mix, sigmoid, fuse, pool, attend)", 1e6 * contexts, "us", **pair_s)
    yield Measurement("sigmoids of a pair alone, by torch", 1e6 * sigmoid, "us", **pair_s)


def _context_seconds(photos: Sequence[Group], captions: Sequence[Group], sizes: Sizes) -> float:
    """Seconds per pair of both sides' contexts in the native implementation, for captions of one length."""
    photo, caption = photos[0].items, captions[len(captions) // 2].items
    many, few = len(photo.local), len(caption.local)
    pool_D = torch.randn(sizes.joint_dim) / sizes.joint_dim**0.5
    words, vectors = caption.local.shape[1], photo.local.shape[1]
    alpha = torch.rand(many, few, vectors, words).softmax(dim=-1)
    beta = torch.rand(many, few, words, vectors).softmax(dim=-1)
    image = photo.channels, photo.query_gate[:, 0], caption.channels, caption.key_gate[:, 0], caption.norms
    text = caption.channels, caption.query_gate[:, 0], photo.channels, photo.key_gate[:, 0], photo.norms
    both = seconds(
        lambda: (
            native.context(*image, alpha, alpha[..., 0], pool_D, query_axis=0),
            native.context(*text, beta, beta[..., 0], pool_D, query_axis=1),
        ),
        rounds=sizes.rounds,
    )
    return both[0] / many / few


def _split(name: str, sizes: Sizes) -> Iterator[Measurement]:
    """A part of a test split through `score_blocks`, encoders included, from features in memory and sentences."""
    photos, captions, factor = SPLITS[name]
    side = (sizes.split_fraction * factor) ** 0.5
    height, width = max(2, round(photos * side)), max(2, round(captions * side))
    model = network(sizes).eval()
    features = np.random.default_rng(0).standard_normal((height, sizes.regions, sizes.feature_dim), dtype=np.float32)
    texts = sentences(width, sizes.words)
    blocks = cut_blocks(model, features, texts, 2 << 30)
    wanted = {(i, j) for i in range(blocks.shape[0]) for j in range(blocks.shape[1])}
    start = time.perf_counter()
    done = sum(scores.size for _, _, scores in score_blocks(model, features, texts, blocks, wanted))
    spent = time.perf_counter() - start
    what = f"{name} ({photos:,} x {captions:,}), {torch.get_num_threads()} threads"
    yield Measurement(f"{what}: {height} x {width} pairs", done / spent, "pairs/s")
    yield Measurement(f"{what}: extrapolated to all pairs", photos * captions / done * spent / 60, "minutes")


def _inputs(sizes: Sizes) -> tuple[Tensor, list[Tensor]]:
    return encoded(sizes.scored_photos, sizes.scored_captions, sizes)

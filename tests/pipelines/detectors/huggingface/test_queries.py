"""Tests of the `huggingface` detector on random models of five families, against the library's own post-processing."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from infra.errors import UserError
from pipelines.detectors import registry
from pipelines.detectors.contract import Regions, check_regions
from pipelines.detectors.huggingface.config import QueriesConfig
from pipelines.detectors.huggingface.queries import QueryDetector
from tests.pipelines.detectors.huggingface.conftest import Models
from tests.support.tiny_vision import DETECTORS, LABELS, MAP, QUERIES, WIDTH, write_vision_model

pytestmark = pytest.mark.usefixtures("one_thread")

FEATURES, BOXES = 2e-4, 2e-2
"""Tolerances of batches against single photos: of features, relative to the largest, and of boxes in pixels."""
every_family = pytest.mark.parametrize("family", DETECTORS)


def photos() -> list[np.ndarray]:
    """Real photos, several of them of one size, and degenerate ones."""
    cat, coffee, astronaut = skimage.data.chelsea(), skimage.data.coffee(), skimage.data.astronaut()
    narrow = np.zeros((3, 500, 3), np.uint8)
    return [cat, coffee, astronaut, cat[:, ::-1].copy(), coffee[::-1].copy(), np.full((1, 1, 3), 200, np.uint8), narrow]


def detector(models: Models, family: str, **settings: object) -> QueryDetector:
    settings = {"min_boxes": 9, "max_boxes": 9, **settings}
    return QueryDetector(QueriesConfig(str(models(family)), **settings))  # type: ignore[arg-type]


@every_family
def test_regions_conform_to_the_contract_and_differ(models: Models, family: str):
    built = detector(models, family)
    found = built(photos())
    for photo, regions in zip(photos(), found, strict=True):
        check_regions(regions, photo.shape[:2], built.spec)
        assert len(regions.features) == 9
    assert found[0].features.std(axis=0).mean() > 0.01, "queries differ"
    assert np.abs(found[0].features - found[1].features).max() > 0.01, "photos differ"


@every_family
def test_batches_equal_single_photos(models: Models, family: str):
    """Of real photos: on one colour, RT-DETR selects its queries among candidates with equal scores."""
    built = detector(models, family, min_boxes=QUERIES, max_boxes=QUERIES)
    single = built(photos()[:5])
    built.batch_size = 8
    for one, other in zip(single, built(photos()[:5]), strict=True):
        assert_same_regions(one, other)


@every_family
def test_boxes_scores_and_labels_are_the_librarys(models: Models, family: str):
    """The best regions are detections of the library's post-processing without a threshold."""
    built, photo = detector(models, family), skimage.data.coffee()
    processor, network = built.processor, built.network
    with torch.inference_mode():
        inputs = processor(images=Image.fromarray(photo), return_tensors="pt")
        output = network(pixel_values=inputs["pixel_values"])
        pairs = output.logits[0].numel()  # of queries and classes
        more = {"top_k": pairs} if family in ("conditional_detr", "deformable_detr") else {}
        (known,) = processor.post_process_object_detection(
            output, threshold=0.0, target_sizes=[photo.shape[:2]], **more
        )
    (regions,) = built([photo])
    height, width = photo.shape[:2]
    boxes = known["boxes"].clamp(min=0).minimum(torch.tensor([width, height, width, height], dtype=torch.float32))
    for box, class_, confidence in zip(regions.boxes[:4], regions.classes[:4], regions.confidences[:4], strict=True):
        near = (boxes - torch.from_numpy(box)).abs().amax(dim=1) < 0.2
        same = near & (known["labels"] == int(class_))
        assert (known["scores"][same] - float(confidence)).abs().min() < 1e-4


@every_family
def test_features_are_the_hidden_states_of_the_queries(models: Models, family: str):
    built, photo = detector(models, family, nms_iou=1.0), skimage.data.astronaut()
    with torch.inference_mode():
        inputs = built.processor(images=Image.fromarray(photo), return_tensors="pt")
        output = built.network(pixel_values=inputs["pixel_values"])
    hidden = output.last_hidden_state[0, -QUERIES:]
    logits = output.logits[0]
    scores = logits.softmax(-1)[:, :-1] if logits.shape[-1] > len(LABELS) else logits.sigmoid()
    best = scores.amax(dim=1).argsort(descending=True, stable=True)[:9]
    (regions,) = built([photo])
    np.testing.assert_allclose(regions.features, hidden[best].numpy(), atol=1e-4)
    assert regions.features.shape == (9, WIDTH)


def test_the_number_of_regions_depends_on_the_score(models: Models):
    built = detector(models, "detr", nms_iou=1.0)
    scores = np.sort(built([skimage.data.coffee()])[0].confidences)[::-1]
    between = float((scores[5] + scores[6]) / 2)
    for score, count in ((0.0, 9), (between, 6), (1.0, 4)):
        built.spec = dataclasses.replace(built.spec, keep_score=score, min_boxes=4)
        (regions,) = built([skimage.data.coffee()])
        assert len(regions.features) == count
        np.testing.assert_array_equal(regions.confidences, scores[:count])


def test_suppressed_queries_follow_where_too_few_survive(models: Models):
    built = detector(models, "detr", nms_iou=0.0, min_boxes=QUERIES, max_boxes=QUERIES)
    (all_,) = built([skimage.data.coffee()])
    assert len(all_.features) == QUERIES
    assert len({tuple(box) for box in all_.boxes.tolist()}) == QUERIES
    drops = np.diff(all_.confidences) > 0
    assert drops.sum() <= 1, "survivors by score, then the suppressed by score"


@pytest.mark.parametrize("family", ["detr", "conditional_detr", "deformable_detr", "rt_detr"])
def test_the_map_of_the_backbone_is_pooled_over_the_box(models: Models, family: str):
    (plain,) = detector(models, family)([skimage.data.coffee()])
    built = detector(models, family, backbone_map=True)
    single = built(photos()[:5])
    np.testing.assert_array_equal(single[1].features[:, :WIDTH], plain.features)
    assert single[1].features.shape == (9, WIDTH + MAP)
    assert single[1].features[:, WIDTH:].std(axis=0).mean() > 0
    built.batch_size = 8
    for one, other in zip(single, built(photos()[:5]), strict=True):
        assert_same_regions(one, other)


def test_a_model_must_have_queries_enough(models: Models):
    with pytest.raises(UserError, match=f"max_boxes is 36, and it has {QUERIES} queries; lower it"):
        QueryDetector(QueriesConfig(str(models("detr"))))


def test_a_model_without_hidden_states_is_refused(tmp_path: Path):
    """A model class of another package, and a detector of the library whose config states no width."""
    from transformers import (
        AutoConfig,
        AutoModelForObjectDetection,
        DetrConfig,
        DetrForObjectDetection,
        PPOCRV5MobileDetConfig,
    )
    from transformers.models.detr.modeling_detr import DetrObjectDetectionOutput

    class BareConfig(DetrConfig):
        model_type = "bare"

    class Bare(DetrForObjectDetection):
        config_class = BareConfig

        def forward(self, **inputs):
            found = super().forward(**inputs)
            return DetrObjectDetectionOutput(logits=found.logits, pred_boxes=found.pred_boxes)

    AutoConfig.register("bare", BareConfig)
    AutoModelForObjectDetection.register(BareConfig, Bare)
    folder = write_vision_model(tmp_path / "bare", "detr")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "bare"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="does not return logits, pred_boxes and last_hidden_state per query"):
        QueryDetector(QueriesConfig(str(folder)))
    PPOCRV5MobileDetConfig().save_pretrained(folder)
    with pytest.raises(UserError, match="its config, of a pp_ocrv5_mobile_det, has no hidden_size"):
        registry.resolve("huggingface", {"model": str(folder)})


def test_no_photos_no_regions_and_no_gray(models: Models):
    built = detector(models, "yolos")
    assert built([]) == []
    with pytest.raises(ValueError, match="RGB uint8"):
        built([skimage.data.chelsea()[..., 0]])


def assert_same_regions(one: Regions, other: Regions) -> None:
    """Compares regions in any order, since rounding may swap two near ties."""
    assert len(one.features) == len(other.features)
    for row in range(len(one.features)):
        differences = np.abs(other.features - one.features[row]).max(axis=1) / np.abs(one.features).max()
        nearest = int(differences.argmin())
        assert differences[nearest] < FEATURES
        assert np.abs(other.boxes[nearest] - one.boxes[row]).max() < BOXES
        assert other.classes[nearest] == one.classes[row]
        assert abs(other.confidences[nearest] - one.confidences[row]) < FEATURES

"""Tests of the box head's predictor."""

from __future__ import annotations

import torch

from pipelines.detectors.bottom_up.roi_head import Predictor


def test_the_predictor_equals_the_equations_for_one_region(bottom_up_tensors):
    feature = torch.rand(2048, generator=torch.Generator().manual_seed(1))
    t = {name.rpartition("box_predictor.")[2]: tensor for name, tensor in bottom_up_tensors.items()}
    logits = t["cls_score.weight"] @ feature + t["cls_score.bias"]
    hidden = torch.cat([feature, t["cls_embedding.weight"][int(logits.argmax())]])
    hidden = (t["fc_attr.weight"] @ hidden + t["fc_attr.bias"]).relu()
    attributes = (t["attr_score.weight"] @ hidden + t["attr_score.bias"]).softmax(0)[:400]
    deltas = (t["bbox_pred.weight"] @ feature + t["bbox_pred.bias"])[4 * 17 : 4 * 17 + 4]

    predictor = Predictor(bottom_up_tensors)
    found = predictor.class_logits(feature[None])
    torch.testing.assert_close(found[0], logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(predictor.box_deltas(feature[None], torch.tensor([17]))[0], deltas, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(predictor.attribute_probabilities(feature[None], found)[0], attributes)
    background = torch.zeros(1, 1601)
    background[0, 1600] = 9.0  # the background has its own embedding
    assert not torch.equal(predictor.attribute_probabilities(feature[None], background)[0], attributes)

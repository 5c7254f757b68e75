"""The tensors of the public checkpoint, of which these numbers and shapes are known."""

import numpy as np

from pipelines.detectors.bottom_up.checkpoint_keys import checkpoint_shapes


def test_the_shapes_are_those_of_the_public_checkpoint():
    shapes = checkpoint_shapes()
    counters = [name for name in shapes if name.endswith("num_batches_tracked")]
    assert (len(shapes), len(counters)) == (640, 104)
    trained = [shape for name, shape in shapes.items() if name not in counters and "running" not in name]
    assert round(sum(int(np.prod(shape)) for shape in trained) / 1e6, 2) == 65.44
    expected = {
        "backbone.stem.conv1.weight": (64, 3, 7, 7),
        "backbone.res2.0.shortcut.weight": (256, 64, 1, 1),
        "backbone.res3.3.conv2.norm.running_var": (128,),
        "backbone.res4.22.conv3.weight": (1024, 256, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": (12, 4),
        "proposal_generator.rpn_head.conv.weight": (512, 1024, 3, 3),
        "proposal_generator.rpn_head.anchor_deltas.bias": (48,),
        "roi_heads.res5.0.conv1.weight": (512, 1024, 1, 1),
        "roi_heads.res5.2.conv3.norm.num_batches_tracked": (),
        "roi_heads.box_predictor.cls_score.weight": (1601, 2048),
        "roi_heads.box_predictor.bbox_pred.weight": (6400, 2048),
        "roi_heads.box_predictor.cls_embedding.weight": (1601, 256),
        "roi_heads.box_predictor.fc_attr.weight": (512, 2304),
        "roi_heads.box_predictor.attr_score.weight": (401, 512),
    }
    assert {name: shapes[name] for name in expected} == expected
    assert not any("conv" in name and name.endswith("conv1.bias") for name in shapes if "rpn" not in name)

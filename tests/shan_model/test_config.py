import math
import re

import pytest

from shan_model.config import ModelConfig

POSITIVE = ("temperature", "context_temperature", "g2l_scale", "g2g_scale")


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        *((name, bad) for name in ("region_dim", "joint_dim", "word_dim") for bad in (0, -3, 2.5, "8", 65_537)),
        *((name, bad) for name in ("l2l_weight", "g2l_weight") for bad in (-0.1, 1.01, math.nan)),
        *((name, bad) for name in POSITIVE for bad in (0, -15, math.nan, math.inf, 1e39)),
        *((name, "") for name in ("variant", "levels", "affinity", "gate", "l2l_pooling")),
        *(("gru_layers", bad) for bad in (0, 101)),
        ("variant", "Full"),
        ("levels", "g2l+g2g"),
        ("affinity", "dot"),
        ("gate", "vectr"),
        ("affinity_init", "zeros"),
        ("text_encoder", "bert"),
        *(("fixed_word_dim", bad) for bad in (-1, 2.5, 10**9)),
        ("l2l_pooling", "max"),
    ],
)
def test_an_invalid_value_is_named_with_its_field(field, bad):
    with pytest.raises(ValueError, match="^" + re.escape(f"model.{field} is {bad!r}; ")):
        ModelConfig(**{field: bad})


def test_an_invalid_choice_is_reported_with_the_valid_ones():
    with pytest.raises(ValueError, match="choose one of: full, t2i, i2t"):
        ModelConfig(variant="both")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"text_encoder": "hf"}, "hf_model"),
        ({"hf_model": "tiny"}, "hf_model"),
        ({"text_encoder": "hf", "hf_model": "tiny", "fixed_word_dim": 300}, "fixed_word_dim"),
    ],
)
def test_contradictory_fields_are_refused(fields, named):
    with pytest.raises(ValueError, match=rf"^model\.{named} is "):
        ModelConfig(**fields)


@pytest.mark.parametrize("weight", [0, 0.5, 1])
def test_weights_may_be_0_or_1(weight):
    assert ModelConfig(l2l_weight=weight, g2l_weight=weight).l2l_weight == weight


def test_defaults_are_those_of_the_paper():
    c = ModelConfig()
    assert (c.region_dim, c.joint_dim, c.word_dim) == (2048, 1024, 300)
    assert (c.temperature, c.l2l_weight, c.g2l_weight) == (15, 0.3, 0.5)
    assert not c.gate_per_level
    assert (c.context_temperature, c.g2l_scale, c.g2g_scale) == (1, 1, 1)
    assert (c.variant, c.levels) == ("full", "l2l+g2l+g2g")
    assert (c.affinity, c.l2l_pooling, c.gate) == ("bilinear", "mean", "vector")

"""Options that are set but have no effect together with the others."""

from pipelines.training.setup import TrainingSetup

_GRU_FIELDS = ("word_dim", "gru_layers")
_SHAN_FIELDS = (
    "variant", "levels", "affinity", "affinity_init", "temperature", "context_temperature", "l2l_weight", "g2l_weight",
    "g2l_scale", "g2g_scale", "l2l_pooling", "gate", "gate_per_level",
)  # fmt: skip
_G2L_FIELDS = ("context_temperature", "g2l_weight", "g2l_scale", "gate")
_G2G_FIELDS = ("g2g_scale", "gate_per_level")
_PRETRAINED_FIELDS = ("text_encoder_learning_rate", "text_encoder_layer_decay")
_DIRECTION_FIELDS = ("l2l_weight", "g2l_weight")
"""Weights of the two directions, of which a one-directional variant has one."""


def ignored_options(setup: TrainingSetup, reads_in_place: bool) -> list[str]:
    """Returns a sentence for each field that differs from its default but has no effect.

    `reads_in_place` is whether the feature set is a folder, whose shards are not cached.
    """
    model, train = setup.model, setup.train
    hf, matcher, levels = "model.text_encoder=hf", f"model.matcher={model.matcher}", f"model.levels={model.levels}"
    is_shan, is_scan = model.matcher == "shan", model.matcher.startswith("scan")
    epochs, frozen = f"train.epochs={train.epochs}", "train.freeze_text_encoder=true"
    rules = (  # section, fields, whether they are ignored, and with what
        ("model", _GRU_FIELDS, model.text_encoder == "hf", hf),
        ("model", _SHAN_FIELDS, not is_shan, matcher),
        ("model", _G2L_FIELDS, is_shan and "g2l" not in model.levels, levels),
        ("model", _G2G_FIELDS, is_shan and "g2g" not in model.levels, levels),
        ("model", _DIRECTION_FIELDS, is_shan and model.variant != "full", f"model.variant={model.variant}"),
        ("model", ("scan_pooling", "scan_lse_factor"), not is_scan, matcher),
        ("model", ("scan_lse_factor",), is_scan and model.scan_pooling == "mean", "model.scan_pooling=mean"),
        ("train", ("min_word_count",), model.text_encoder == "hf", hf),
        ("train", (*_PRETRAINED_FIELDS, "freeze_text_encoder"), model.text_encoder == "gru", "model.text_encoder=gru"),
        ("train", _PRETRAINED_FIELDS, model.text_encoder == "hf" and train.freeze_text_encoder, frozen),
        ("train", ("lr_decay_epoch",), train.lr_schedule != "step", f"train.lr_schedule={train.lr_schedule}"),
        ("train", ("lr_decay_epoch",), train.lr_schedule == "step" and train.lr_decay_epoch >= train.epochs, epochs),
        ("train", ("early_stopping_patience",), train.early_stopping_patience >= train.epochs, epochs),
        ("cache", ("folder", "max_gb"), reads_in_place, "a feature set in a folder, whose shards are read in place"),
    )  # fmt: skip
    return [
        f"{section}.{name} is {value}, but has no effect with {reason}"
        for section, names, ignored, reason in rules
        if ignored
        for name in names
        if (value := getattr(getattr(setup, section), name)) != getattr(type(getattr(setup, section)), name)
    ]

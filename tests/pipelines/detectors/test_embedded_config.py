"""Tests of the settings of the embedded detector."""

import dataclasses

from pipelines.detectors.embedded_config import EmbeddedConfig


def test_every_setting_enters_the_fingerprint():
    default = EmbeddedConfig()
    seen = {default.fingerprint()}
    for field in dataclasses.fields(default):
        value = getattr(default, field.name)
        other = tuple(v + 1 for v in value) if isinstance(value, tuple) else value + 1
        seen.add(dataclasses.replace(default, **{field.name: other}).fingerprint())
    assert len(seen) == 1 + len(dataclasses.fields(default))

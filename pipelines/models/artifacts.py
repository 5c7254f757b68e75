"""Names of the artifacts of a registered version: the folders that it has beside its code."""

BUNDLE = "bundle"
"""The model bundle (shan_model/bundle.py)."""
DETECTOR = "detector"
"""The detector of the training features (pipelines/models/detection.py)."""

"""Extraction: photos to a feature set on Ray Data."""

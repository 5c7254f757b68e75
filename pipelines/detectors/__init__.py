"""Detectors: a batch of photos in, 36 regions with features a photo out."""

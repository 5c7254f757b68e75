"""Detectors: a batch of photos in, regions with boxes and features out."""

"""Matchers of earlier papers in the batched implementation of SHAN's alignment, to compare with under equal conditions."""

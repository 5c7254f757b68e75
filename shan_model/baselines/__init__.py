"""Matchers of earlier papers in the block form of SHAN's alignment, to compare with under equal conditions."""

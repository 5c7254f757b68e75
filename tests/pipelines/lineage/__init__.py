"""Tests of pipelines/lineage."""

"""Continuous work of a team on a cluster with faults, and what must be true afterwards (`python -m tests.soak`)."""

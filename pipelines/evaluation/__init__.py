"""Scoring, retrieval metrics, behavioural tests and promotion."""

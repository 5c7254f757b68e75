"""Extraction, training, evaluation and promotion as one resumable job."""

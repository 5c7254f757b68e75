"""Extraction, training, evaluation, promotion and indexing as one resumable job."""

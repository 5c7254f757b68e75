"""Matchers of earlier papers, on the same encoders and the same base class as SHAN's batched alignment."""

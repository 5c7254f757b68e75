"""Detectors from models of the Hugging Face hub: queries of an object detector, and pooled patches of a backbone."""

"""Imports features of other code (SCAN .npy folders, bottom-up-attention TSV) and exports to SCAN's format."""

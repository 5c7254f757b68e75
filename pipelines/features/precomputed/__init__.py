"""Features that others extracted: SCAN's .npy folders and bottom-up-attention TSV to feature sets, and back to .npy."""

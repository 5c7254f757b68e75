"""Data sets: importers, the manifest they produce, photo sources, and decoding of photos."""

"""Data sets: importers, the manifest, photo sources and decoding."""

"""Rendered scenes: a seeded data set that ships as a generator, not as files."""

"""Rendered scenes: a seeded synthetic data set of photos and captions, generated rather than shipped.

`generate.generate(ScenesConfig(), folder)` writes the data set. `world` defines scenes, `sampling` draws scenes and
minimal pairs at random, `captions` words them, `render` draws them as pictures, and `generate` writes the files.

A minimal pair is two scenes that differ in one exchange between two things. Their captions consist of the same words in
another order, so a bag-of-words model cannot distinguish them; each scene of a pair is the other's counterpart.
"""

"""Rendered scenes: a seeded data set that ships as a generator, not as files.

Start with `generate.generate(ScenesConfig(), folder)`. `world` says what a scene is, `sampling` makes scenes
and twins up, `captions` tells them, `render` draws them, `generate` writes the files.
"""

"""The search service: a Ray Serve application over search indexes, which follows the champion."""

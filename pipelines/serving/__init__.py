"""Search over a feature set and retrieve-and-rerank."""

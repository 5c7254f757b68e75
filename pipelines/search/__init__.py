"""Search: indexes of encoded photos and captions, search over them and over feature sets, retrieve-and-rerank."""

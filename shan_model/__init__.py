"""The network and nothing else: vocabulary, encoders, alignment, loss, scoring, metrics (torch, numpy, safetensors)."""

"""`make bench-gpu`: throughput, memory and fraction of the card's peak on one GPU, at the paper's sizes.

Needs torch, numpy, safetensors, pillow and pyarrow, no network, and no installation of this project. A benchmark that
needs another package (the embedded detector's weights, Ray, MLflow) is skipped where it is not installed.
Every function takes a torch device, so that the tests run the same code at tiny sizes on a CPU.
"""

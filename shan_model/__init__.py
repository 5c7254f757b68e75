"""The network: vocabulary, encoders, matchers, loss, scoring and metrics. Depends on torch, numpy and safetensors."""

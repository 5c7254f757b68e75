"""Configuration of the estimate of an extraction."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class EstimateConfig:
    """The cluster for which `jobs.extract --plan` estimates."""

    num_nodes: int = 0
    """Number of worker nodes; 0 means the current cluster, with all its resources as one node."""
    cpus_per_node: float = 16.0
    """Cores per node."""
    gpus_per_node: float = 0.0
    """GPUs per node."""
    dollars_per_node_hour: float = 0.0
    """Price per node and hour; 0 leaves the cost out."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field and the fix."""
        for name in ("num_nodes", "gpus_per_node", "dollars_per_node_hour"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"estimate.{name} is {getattr(self, name)}; it must not be negative")
        if not 0 < self.cpus_per_node < math.inf:
            raise ValueError(f"estimate.cpus_per_node is {self.cpus_per_node}; it must be positive")

"""What jobs stand on: object store, MLflow tracking and registry, the Ray session."""

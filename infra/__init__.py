"""Infrastructure: object storage, MLflow tracking and registry, Ray clusters and jobs."""

"""Everything below the pipelines: object storage, MLflow tracking and registry, Ray sessions and submitted jobs."""

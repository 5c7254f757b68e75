"""Trained models: packaging for MLflow, loading, and the registered pyfunc."""

"""What commands call: data sets, detectors, extraction, features, models, training, evaluation, lineage, search."""

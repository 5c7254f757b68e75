"""What commands call: data sets, detectors, extraction, features, models, training, evaluation, serving and reports."""

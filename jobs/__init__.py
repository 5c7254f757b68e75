"""One file per thing a user submits: `python -m jobs.<name> --help`."""

"""Photos to feature shards on Ray Data."""

"""Feature sets: shards, receipts, index, verification and reports."""

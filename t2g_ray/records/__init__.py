"""JSONL <-> records, and the embedded world of records that the product ships."""

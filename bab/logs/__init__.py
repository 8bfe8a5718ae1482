"""Partition logs: their format, and what can be done with one. `bab/partition_log.py` writes them."""

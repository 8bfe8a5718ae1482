"""Trees that are grown to be counted, and what is said of them: the parts of `bab/comparing/partition.py`."""

"""Partition logs: their format, and what can be done with one. `observer.py` writes them."""

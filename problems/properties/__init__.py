"""Properties: VNN-LIB and numbers in Python, as exact cases."""

"""A(f, X) counted: the parts of `patterns.py`. Imports point from `search` and `programs` to `proof`, `tree`."""

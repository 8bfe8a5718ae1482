"""Rows that tie several neurons together: groups, hulls, and the bounds that use them."""

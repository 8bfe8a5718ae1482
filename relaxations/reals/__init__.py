"""The network at a point over the real numbers."""

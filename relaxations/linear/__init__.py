"""Linear bounds by intervals and back-substitution, with their rounding and their optimised slopes."""

"""Counterexamples: descent to candidates, and what makes a candidate a witness."""

"""Proofs that a search handed out, checked again without it. What they are is in `bab.trees.proofs`."""

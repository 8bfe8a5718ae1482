"""Relaxations as objects of study: chords, and values that can be differentiated."""

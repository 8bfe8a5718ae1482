"""Rungs that are linear or mixed-integer programs, from Triangle to the exact relaxation."""

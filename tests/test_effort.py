"""The section `effort` of the configuration: strict, complete, and with no say in a verdict."""

from __future__ import annotations

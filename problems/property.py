"""Properties for those who write Python: what one is made of, and how to make one from numbers."""

from __future__ import annotations

from .properties.property import Case, Polytope, Property, UnsafeSet
from .properties.specify import box_property, robustness_property

__all__ = ["Case", "Polytope", "Property", "UnsafeSet", "box_property", "robustness_property"]

"""Networks that hold the same weights twice: bounds by signs and by differences of twins."""

"""The theory as experiments: one file a study, each with a function `study(seed) -> Study` (see `table`)."""

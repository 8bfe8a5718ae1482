"""How a run ends: signals, streams that may be closed or full, files that are whole or absent."""

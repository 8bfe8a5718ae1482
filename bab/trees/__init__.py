"""The kinds of tree: how pieces are stored, bounded, cut and settled."""

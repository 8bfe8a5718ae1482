"""`partita run`: the instances of a benchmark, each in a process of its own."""

"""Linear and mixed-integer programs in native solvers, which may die: see `door`."""

"""The numbers that proofs rest on beside u and gamma_n (`kernels.rounding`), each with why it suffices.

They are no effort: no configuration reaches them, and making one smaller may make a verdict wrong. Where a formula adds
terms to an inner product's own (`gamma(n + 3)`: a weight stored in another precision, a product, a bias), the count is
derived beside it.
"""

# An error bound is itself computed: as sums and products of numbers >= 0, in the working precision. A computed sum of n
# such terms is below the true one by a share of at most gamma_n, which 2 % covers to n = 300,000 in float32; the few
# further factors of a bound (a product with gamma, with another bound) are a unit each.
INFLATE = 1.02

# The same in float64, where 1 % covers n = 10^13; in float32 it covers what is added to gamma_n, not gamma_n itself.
SUMMED = 1.01

# Sizes of values that were computed in the working precision, already inflated, and are converted: in float32 one more
# rounding of 6e-8, and as much again where they are added up; 0.1 % is ten thousand times that.
SIZES = 1.001

# For sums of at most some thousand numbers >= 0 in float64 (the inputs of a half-space, the outputs of a row): gamma_n
# is below 1e-12 to n = 9,000.
UPWARD_SUM = 1 + 1e-12

# One product or quotient that is rounded up in either precision's factor: float64 numbers, a few units of 1e-16.
UPWARD = 1 + 1e-10

# Epsilons that a computed f(x) - s x may be off by, relative to 1 + |s x|, for sigmoid, tanh and the like. PyTorch's
# own are within 1 unit in the last place; the subtraction and the product cost half a unit each, the rest is margin.
ERROR = 4.0

DOUBLE = ROUNDOFF = 2.0**-53  # unit roundoff of float64

# Roundings beside an inner product: storing a weight, a division at its end, the bias, and of the bound itself three.
SLACK = 6

# The share of a layer's largest bias that folding may leave in doubt: what is folded is charged for whatever it loses,
# this keeps that from mattering.
DUST = 2.0**-36

# Relative error of float64 sums of some hundred thousand terms, and a hundred times as much.
ROUNDING = 1e-9
CLEARLY = 1e-9  # a share of a sum's terms that rounding does not reach: the same

STEEP = 4096.0  # units that 2 x / scale loses to the exponent of a tail, below 2,000 in float64: twice that
COUNTABLE = 1 << 20  # terms of a sum of signs: float32 holds four times that exactly

# What mixed-integer solvers are held to (the smallest that Gurobi accepts): their answers are moved by that much for
# each unit of all variables' widths, or of the widest row where that is more. An `unsat` of `exact` rests on it, and
# says so with the margin; the searches ask no such solver.
TOLERANCE = 1e-9

# HiGHS writes outside its arrays where coefficients differ too much: see `solving.door`, which measured it.
RATIO = 1e9  # of the largest to the smallest that is not taken for 0
LARGE = 1e12  # of one alone
NOUGHT = 1e-9  # entries of at most this HiGHS takes for 0 (`small_matrix_value`): noise that scaling would blow up

# Where rounding over the real numbers cannot be bounded it is measured, on copies that are moved at random; a verdict
# that rests on it says so. Half a range, in spreads of 8 copies: far more than any of 10^6 trials showed.
COPIES = 8
SPREADS = 32.0

# By which, relative to 1 + |claim|, float64 may miss a bound that was claimed where it is computed again: another order
# of summation moves it by gamma_n, some 1e-12, and by the same share of what cancels. Of claims alone: what closes a
# piece again is computed from what was proved, not from what was claimed.
MISSED = 1e-9

"""Many linear programs that share a matrix, by the primal-dual hybrid gradient method, all at once.

min c x over row_lower <= A x <= row_upper, lower <= x <= upper, with multipliers y of the rows. One step is

    x' = clip(x - tau (c - A^T y), lower, upper)
    y' = z+ + z-,  z+ = max(v + sigma row_lower, 0), z- = min(v + sigma row_upper, 0),  v = y - sigma A (2 x' - x)

(Chambolle and Pock 2011; for linear programs Applegate et al. 2021, "PDLP"), two products with the matrix for the whole
batch and two passes over its vectors. With it come, each of them for every program on its own:

* Halpern's iteration on the reflected step: the next point is w (2 T(z) - z) + (1 - w) z0, w = (k + 1) / (k + 2), for
  the k-th step since the last restart at z0 (Lu and Yang 2024).
* Restarts where the fixed-point residual |z - T(z)| has fallen to a fifth, or to four fifths and rises again, or after
  36 % of all steps; the ratio omega of the step sizes, tau = eta / omega, sigma = eta omega, is then balanced between
  the distances that x and y went, by a proportional-integral rule on its logarithm (Lu, Peng and Yang 2025, cuPDLPx).
* The matrix scaled on both sides: columns by the square root of their box's width, then ten rounds of Ruiz (2001) and
  one of Pock and Chambolle (2011). The widths are what this version adds, as a bound loses reduced cost times width
  (mnist_fc 256x4, 2,000 steps, optimum -0.365: -0.471 without, -0.382 with).
* Judgement at intervals: the bound of y' and of y' with `Definitions` substituted, the better kept. A program
  leaves the batch when it is solved to the tolerance, has reached its target, or is proved infeasible.

Bytes of a step, for V + R numbers a program of w bytes: 6 read and 2 written a variable, as many a row, where torch's
elementwise operations read and write 24; the products read the matrix once a batch. `triton.first_order` fuses the
passes.

Soundness: the iteration is heuristic, in float32 or float64. What is returned as `bound` is `safe_bounds` of the best
multipliers met: outward rounded, whatever happened before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .blocks import Blocks
from .deadline import now
from .device import fused
from .weak_duality import Definitions, Programs, admissible, claimed_bounds, safe_bounds


@dataclass(frozen=True)
class Pace:
    """How long a batch goes on, and when it is judged and restarted (Applegate et al. 2021)."""

    steps: int  # at most
    tolerance: float  # relative, of gap and rows, at which a program is solved
    every: int  # steps between two judgements
    sufficient: float  # decrease of the residual since the last restart that asks for another
    necessary: float  # the same where it grows again
    artificial: float  # share of all steps after which there is one anyway
    proportional: float  # the controller of the primal weight (Lu, Peng and Yang 2025)
    integral: float


@dataclass(frozen=True, eq=False)
class Start:
    """Where to start; what an `Answer` ended with serves the programs that come from it."""

    primal: Tensor  # (V, B)
    dual: Tensor  # (R, B)
    ratio: Tensor | None = None  # (B,), omega


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found for each program; `bound` and `infeasible` are proved, the rest is heuristic."""

    bound: Tensor  # (B,) inf where infeasible
    dual: Tensor  # (R, B), the multipliers that prove `bound`
    infeasible: Tensor  # (B,) bool
    primal: Tensor  # (V, B), in its box; its rows are broken by `violation`
    value: Tensor  # (B,), c x there
    violation: Tensor  # (B,), in the units of the rows
    solved: Tensor  # (B,) bool: to the tolerance
    steps: Tensor  # (B,) int64
    end: Start  # the last point, not the best


@dataclass(frozen=True, eq=False)
class Scaled:
    """A matrix prepared for the iteration in its dtype, beside the original in float64."""

    original: Blocks
    matrix: Blocks  # diag(rows) A diag(columns)
    rows: Tensor  # (R,)
    columns: Tensor  # (V,)
    step: float  # eta, under 1 / |matrix|
    definitions: Definitions

    @staticmethod
    def of(original: Blocks, width: Tensor, definitions: Definitions, dtype: torch.dtype, device: str) -> Scaled:
        """`width` (V,): the boxes' typical widths; `original` in float64."""
        original = original.to(torch.float64, device)
        width = width.to(device, torch.float64)
        columns = width.clamp(1e-4, 1e4).sqrt()
        rows = torch.ones(original.shape[0], dtype=torch.float64, device=device)
        for power in (*[torch.inf] * 10, 1.0):
            sizes = original.scaled(rows, columns).row_and_column(power)
            rows, columns = (s / torch.where(n > 0, n, 1.0).sqrt() for s, n in zip((rows, columns), sizes, strict=True))
        matrix = original.scaled(rows, columns)
        step = 0.95 / max(_norm(matrix), 1e-12)
        return Scaled(original, matrix.to(dtype, device), rows, columns, step, definitions.to(device))


def _norm(matrix: Blocks) -> float:
    """The largest singular value, by power iteration (heuristic: from below)."""
    like = matrix.like
    x = torch.ones(matrix.shape[1], 1, dtype=like.dtype, device=like.device)
    x += 0.1 * torch.sin(torch.arange(len(x), dtype=like.dtype, device=like.device))[:, None]
    size = 0.0
    for _ in range(60):
        y = matrix.times(x)
        size = float(y.norm() / x.norm().clamp(min=1e-300))
        x = matrix.transposed_times(y)
        x = x / x.norm().clamp(min=1e-300)
    return size


def primal_step(
    x: Tensor,  # (V, B)
    anchor: Tensor,  # (V, B)
    gradient: Tensor,  # (V, B), A^T y
    cost: Tensor,  # (V, B)
    lower: Tensor,  # (V, B)
    upper: Tensor,  # (V, B)
    step: Tensor,  # (B,)
    weight: Tensor,  # (B,)
) -> tuple[Tensor, Tensor]:  # (V, B), (V, B)
    """The reflected point 2 x' - x, and Halpern's next x. Heuristic."""
    if fused(x, anchor, gradient, cost, lower, upper, step, weight):
        from .triton.first_order import primal_step as fast

        return fast(x, anchor, gradient, cost, lower, upper, step, weight)
    bar = torch.sub(gradient, cost).mul_(step).add_(x)
    torch.minimum(torch.maximum(bar, lower, out=bar), upper, out=bar)
    bar.mul_(2).sub_(x)
    return bar, torch.sub(bar, anchor).mul_(weight).add_(anchor)


def dual_step(
    y: Tensor,  # (R, B)
    anchor: Tensor,  # (R, B)
    activity: Tensor,  # (R, B), A (2 x' - x)
    row_lower: Tensor,  # (R, B)
    row_upper: Tensor,  # (R, B)
    step: Tensor,  # (B,)
    weight: Tensor,  # (B,)
) -> tuple[Tensor, Tensor]:  # (R, B), (R, B)
    """The reflected point 2 y' - y, and Halpern's next y. Heuristic."""
    if fused(y, anchor, activity, row_lower, row_upper, step, weight):
        from .triton.first_order import dual_step as fast

        return fast(y, anchor, activity, row_lower, row_upper, step, weight)
    below = torch.sub(row_lower, activity).mul_(step).add_(y).clamp_(min=0)
    bar = torch.sub(row_upper, activity).mul_(step).add_(y).clamp_(max=0).add_(below)
    bar.mul_(2).sub_(y)
    return bar, torch.sub(bar, anchor).mul_(weight).add_(anchor)


@torch.no_grad()
def solve(
    scaled: Scaled,
    programs: Programs,
    pace: Pace,
    *,
    start: Start | None = None,
    target: Tensor | None = None,  # (B,)
    deadline: float | None = None,
) -> Answer:
    """Iterate until every program is done: solved to the pace's tolerance (gap between bound and value, and rows),
    proved infeasible, at a bound of at least its `target`, or at the last step or the `deadline`
    (`kernels.deadline.now`)."""
    run = _Run(scaled, programs, start, pace, target)
    while run.total < pace.steps and run.left and (deadline is None or now() < deadline):
        run.advance(min(pace.every, pace.steps - run.total))
    return run.answer()


class _Run:
    """A batch under way: the programs still in it, and what was found so far for all; theirs stands in columns `at`."""

    def __init__(
        self, scaled: Scaled, programs: Programs, start: Start | None, pace: Pace, target: Tensor | None
    ) -> None:
        self.scaled, self.all, self.pace = scaled, programs, pace
        count = programs.cost.shape[1]
        wide = programs.cost
        self.at = torch.arange(count, device=wide.device)
        self.target = wide.new_full((count,), torch.inf) if target is None else target.to(wide)
        self.best = wide.new_full((count,), -torch.inf)
        self.multipliers = wide.new_zeros(programs.row_lower.shape)
        self.value, self.violation = wide.new_full((count,), torch.inf), wide.new_full((count,), torch.inf)
        self.solved = torch.zeros(count, dtype=torch.bool, device=wide.device)
        self.steps = torch.zeros(count, dtype=torch.int64, device=wide.device)
        self.last_dual, self.ratios = torch.zeros_like(self.multipliers), torch.ones_like(self.best)
        self.total = 0
        self._begin(programs, start)
        self.primal = self.x.double() * scaled.columns[:, None]
        self._keep_best(self.y.double() * scaled.rows[:, None])
        self._leave()

    @property
    def left(self) -> int:
        return len(self.at)

    def _begin(self, programs: Programs, start: Start | None) -> None:
        s = self.scaled
        dtype = s.matrix.like.dtype
        narrow = lambda t, by: (t * by[:, None]).to(dtype)  # noqa: E731
        self.programs = programs
        self.cost = narrow(programs.cost, s.columns)
        self.lower, self.upper = narrow(programs.lower, 1 / s.columns), narrow(programs.upper, 1 / s.columns)
        self.row_lower, self.row_upper = narrow(programs.row_lower, s.rows), narrow(programs.row_upper, s.rows)
        if start is None:
            self.x = (self.lower + self.upper) / 2
            self.y = self.x.new_zeros(self.row_lower.shape)
        else:
            self.x = narrow(start.primal, 1 / s.columns).clamp(self.lower, self.upper)
            self.y = narrow(start.dual, 1 / s.rows)
        if start is None or start.ratio is None:
            sides = torch.where(self.row_lower.isfinite(), self.row_lower, self.row_upper)
            sides = torch.where(sides.isfinite(), sides, 0.0)
            top, bottom = self.cost.norm(dim=0), sides.norm(dim=0)
            self.omega = torch.where((top > 0) & (bottom > 0), top / bottom.clamp(min=1e-12), 1.0)
        else:
            self.omega = start.ratio.to(dtype).clone()
        self.x0, self.y0 = self.x, self.y
        self.since = torch.zeros_like(self.omega)
        self.first = torch.full_like(self.omega, torch.inf)  # residual right after the restart
        self.before = torch.full_like(self.omega, torch.inf)
        self.integral = torch.zeros_like(self.omega)

    def advance(self, count: int) -> None:
        """`count` steps, and a judgement."""
        for i in range(count):
            tau, sigma = self.scaled.step / self.omega, self.scaled.step * self.omega
            weight = (self.since + 1) / (self.since + 2)
            gradient = self.scaled.matrix.transposed_times(self.y)
            x_bar, x = primal_step(self.x, self.x0, gradient, self.cost, self.lower, self.upper, tau, weight)
            activity = self.scaled.matrix.times(x_bar)
            y_bar, y = dual_step(self.y, self.y0, activity, self.row_lower, self.row_upper, sigma, weight)
            self.total += 1
            if i == 0 or i == count - 1:
                new_x, new_y = (x_bar + self.x) / 2, (y_bar + self.y) / 2
                image = self.scaled.matrix.times(new_x)
                residual = self._residual(new_x - self.x, new_y - self.y, activity - image)
                self.first = torch.where(self.since == 0, residual, self.first)
                if i == count - 1:
                    self._judge(new_x, new_y, image)
                    again = self._restarts(residual)
                    self._rebalance(new_x, new_y, again)
                    self.x0, self.y0 = torch.where(again, new_x, self.x0), torch.where(again, new_y, self.y0)
                    x, y = torch.where(again, new_x, x), torch.where(again, new_y, y)
                    self.before = torch.where(again, torch.inf, residual)
                    self.since = torch.where(again, -1.0, self.since)
            self.x, self.y = x, y
            self.since = self.since + 1
        self._leave()

    def _residual(self, dx: Tensor, dy: Tensor, image: Tensor) -> Tensor:
        """|z - T(z)| in the norm in which the step is a contraction; `image` is A dx."""
        eta = self.scaled.step
        square = (
            self.omega / eta * dx.square().sum(0) - 2 * (dy * image).sum(0) + dy.square().sum(0) / (eta * self.omega)
        )
        return square.clamp(min=0).sqrt()

    def _restarts(self, residual: Tensor) -> Tensor:
        enough = residual <= self.pace.sufficient * self.first
        turning = (residual <= self.pace.necessary * self.first) & (residual > self.before)
        return enough | turning | (self.since + 1 >= self.pace.artificial * self.total)

    def _rebalance(self, x: Tensor, y: Tensor, again: Tensor) -> None:
        """Omega nearer to the ratio of the distances that y and x went since the last restart."""
        went_x, went_y = (x - self.x0).norm(dim=0), (y - self.y0).norm(dim=0)
        usable = again & (went_x > 1e-10) & (went_y > 1e-10)
        error = torch.where(usable, (self.omega * went_x / went_y).log(), 0.0).clamp(-10, 10)
        self.integral = self.integral + error
        change = self.pace.proportional * error + self.pace.integral * self.integral
        change = torch.where(usable, change, 0.0)
        self.omega = (self.omega.log() - change).clamp(-20, 20).exp()

    def _keep_best(self, dual: Tensor) -> None:
        """Multipliers of the programs here, as they are and substituted, kept where they prove more than the best."""
        s, best = self.scaled, self.best[self.at]
        candidates = [dual]
        if s.definitions.levels:
            candidates.append(s.definitions.substituted(admissible(dual, self.programs)[0], self.programs.cost))
        for candidate in candidates:
            bound = claimed_bounds(s.original, self.programs, candidate)
            better = bound > best
            best = torch.where(better, bound, best)
            self.multipliers[:, self.at] = torch.where(better, candidate, self.multipliers[:, self.at])
        self.best[self.at] = best

    def _judge(self, x: Tensor, y: Tensor, image: Tensor) -> None:
        """Bounds of the programs here, kept where they are the best so far; which programs are solved."""
        s, wide = self.scaled, self.programs
        dual = y.double() * s.rows[:, None]
        self._keep_best(dual)
        best = self.best[self.at]
        point = x.double() * s.columns[:, None]
        value = (wide.cost * point).sum(0)
        rows = image.double()
        broken = torch.maximum(self.row_lower.double() - rows, rows - self.row_upper.double()).clamp(min=0)
        sides = torch.where(self.row_lower.isfinite(), self.row_lower.abs(), 0.0)
        near = _largest(broken) <= self.pace.tolerance * (1 + _largest(sides))
        self.solved[self.at] = near & (value - best <= self.pace.tolerance * (1 + value.abs() + best.abs()))
        self.primal[:, self.at], self.value[self.at] = point, value
        self.violation[self.at] = _largest(broken / s.rows[:, None])
        self.steps[self.at] = self.total

    def _leave(self) -> None:
        """Programs that are done leave the batch once a quarter of it is, or all."""
        done = self.solved[self.at] | (self.best[self.at] >= self.target[self.at]) | (self.best[self.at] == torch.inf)
        gone = int(done.sum())
        if gone < self.left and gone < 0.25 * self.left:
            return
        self._store()
        stay = torch.nonzero(~done).flatten()
        self.at = self.at[stay]
        self.programs = self.programs.select(stay)
        for name in ("cost", "lower", "upper", "row_lower", "row_upper", "x", "y", "x0", "y0"):
            setattr(self, name, getattr(self, name)[:, stay])
        for name in ("omega", "since", "first", "before", "integral"):
            setattr(self, name, getattr(self, name)[stay])

    def _store(self) -> None:
        self.last_dual[:, self.at] = self.y.double() * self.scaled.rows[:, None]
        self.ratios[self.at] = self.omega.double()

    def answer(self) -> Answer:
        self._store()
        bound, infeasible = safe_bounds(self.scaled.original, self.all, self.multipliers)
        end = Start(self.primal, self.last_dual, self.ratios)
        return Answer(
            bound, self.multipliers, infeasible, self.primal, self.value, self.violation, self.solved, self.steps, end
        )


def _largest(t: Tensor) -> Tensor:  # (R, B) >= 0 -> (B,)
    return t.amax(0) if len(t) else t.new_zeros(t.shape[1])

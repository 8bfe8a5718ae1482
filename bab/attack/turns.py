"""The attack's turns before the search: a quick one at first, longer ones where the root turned out hard."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from ...kernels.deadline import TimeUp, doing, now, share, until
from .descent import Attack
from .witness import Witness


def first_turn(attack: Attack, deadline: float | None) -> Witness | None:
    """One quick turn before anything else."""
    budget = next(attack.budgets())
    doing("a counterexample was looked for")
    try:
        with torch.enable_grad(), until(share(attack.effort.early)):
            return attack.search(restarts=budget.restarts, steps=budget.steps, deadline=deadline)
    except TimeUp:
        return None


@dataclass(eq=False)
class SecondTurn:
    """Longer turns of the attack, called where the root turned out hard, from the points that its bounds are reached
    at and from others, for a share of the time the root has taken so far; whether they found a witness."""

    attack: Attack | None
    deadline: float | None
    begun: float
    witness: Witness | None = None

    def __call__(self, points: Tensor) -> bool:
        if self.attack is None:
            return False
        moment, effort = now(), self.attack.effort
        limit = min(moment + effort.second * (moment - self.begun), self.deadline or math.inf)
        for budget in islice(self.attack.budgets(), 1, 1 + effort.second_budgets):
            try:
                with until(limit):
                    self.witness = self.attack.polish(points, steps=budget.steps, deadline=limit) or self.attack.search(
                        restarts=budget.restarts, steps=budget.steps, deadline=limit
                    )
            except TimeUp:
                break
            if self.witness is not None or now() > limit:
                break
        return self.witness is not None

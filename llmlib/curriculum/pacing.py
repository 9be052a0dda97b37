"""The schedule: competence c(t), the share of the corpus, easiest first, that is open at time t.

Time is measured in whatever the run counts: steps or tokens. c rises from c0 at t = 0 to 1 at t = T and stays there. It
is a clock: it never looks at the learner. Source: Platanios et al. 2019 (arXiv 1903.09848), equations 6-8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PACINGS = ("linear", "root", "step", "all")


def _checked(t, duration: float, start: float) -> np.ndarray:
    if not (np.isfinite(duration) and duration > 0):
        raise ValueError(f"The duration T is {duration!r}; it has to be above 0, in the unit of t.")
    if not 0 < start <= 1:
        raise ValueError(f"The first competence c0 is {start!r}; it has to be above 0 and at most 1.")
    t = np.asarray(t, dtype=float)
    if not (t >= 0).all():
        raise ValueError(f"Time t is {t.min()}; it starts at 0.")
    return t


def power_competence(t, duration: float, start: float = 0.01, power: float = 2.0):
    """min(1, (t (1 - c0^p) / T + c0^p)^(1/p)): with p = 2 the root pacing, with p = 1 the linear one.

    c^p grows at a constant rate, so dc/dt is in proportion to 1 / c^(p-1): with p = 2, to 1 / c, and each text that
    is added is drawn equally often before the next. Takes a number or an array.

    >>> power_competence([0, 25, 100, 200], duration=100, start=0.2).round(3).tolist()
    [0.2, 0.529, 1.0, 1.0]
    """
    t = _checked(t, duration, start)
    if not (np.isfinite(power) and power > 0):
        raise ValueError(f"The power p is {power!r}; it has to be above 0: 1 is linear pacing, 2 root pacing.")
    raised = np.minimum(1.0, t / duration) * (1 - start**power) + start**power
    return np.where(t >= duration, 1.0, raised ** (1 / power))


def linear_competence(t, duration: float, start: float = 0.01):
    """min(1, t (1 - c0) / T + c0): texts are added at a constant rate.

    >>> linear_competence([0, 25, 100, 200], duration=100, start=0.2).round(3).tolist()
    [0.2, 0.4, 1.0, 1.0]
    """
    return power_competence(t, duration, start, 1.0)


def step_competence(t, duration: float, start: float = 0.01, stages: int = 4):
    """c0, then jumps of equal size at equal intervals; the last, at T, opens everything.

    >>> step_competence([0, 24, 25, 50, 100], duration=100, start=0.2, stages=4).round(3).tolist()
    [0.2, 0.2, 0.4, 0.6, 1.0]
    """
    t = _checked(t, duration, start)
    if stages != int(stages) or stages < 1:
        raise ValueError(f"There are {stages!r} stages before all is open; it has to be a whole number of at least 1.")
    return start + (1 - start) * np.minimum(stages, np.floor(t / duration * stages)) / stages


@dataclass(frozen=True)
class Pacing:
    """A schedule with its numbers: `kind` is "linear", "root", "step", or "all", which is no curriculum.

    >>> Pacing("root", duration=100, start=0.2).competence(25).round(3).item()
    0.529
    """

    kind: str
    duration: float = 1.0  # T, in the unit of t
    start: float = 0.01  # c0
    stages: int = 4  # of "step"

    def __post_init__(self) -> None:
        if self.kind not in PACINGS:
            raise ValueError(f"There is no pacing {self.kind!r}; choose one of {', '.join(PACINGS)}.")
        self.competence(0.0)  # complains of the other numbers

    def competence(self, t):
        """c(t), in (0, 1]: a number or an array of them."""
        if self.kind == "all":
            return np.ones_like(_checked(t, self.duration, self.start))
        if self.kind == "step":
            return step_competence(t, self.duration, self.start, self.stages)
        return power_competence(t, self.duration, self.start, {"linear": 1.0, "root": 2.0}[self.kind])

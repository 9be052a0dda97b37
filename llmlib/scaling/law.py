"""The loss law, and what follows from it in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.optimize import brentq

from llmlib.scaling.counting import positive, six_nd


@dataclass(frozen=True)
class Allocation:
    """A budget spent: N parameters, D tokens, and the loss that the law expects of them, nats per token."""

    N: float
    D: float
    loss: float

    @property
    def flops(self) -> float:
        return six_nd(self.N, self.D)

    @property
    def tokens_per_parameter(self) -> float:
        return self.D / self.N


@dataclass(frozen=True)
class LossLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta, in nats per token. Source: Hoffmann et al. 2022, equation 2.

    >>> law = LossLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
    >>> round(law.loss(70e9, 1.4e12), 3)  # Chinchilla
    1.937
    >>> best = law.best(5.76e23)
    >>> f"N {best.N:.3g}, D / N {best.tokens_per_parameter:.3g}"
    'N 3.22e+10, D / N 92.6'

    Raises ValueError for constants that give no law: all but E have to be above 0, and E may be 0.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        for name in ("E", "A", "B", "alpha", "beta"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0 or (value == 0 and name != "E"):
                least = "0 or more" if name == "E" else "above 0"
                raise ValueError(f"{name} is {value}; in a loss law it is a number {least}.")

    def loss(self, N, D):
        """Nats per token after training N parameters on D tokens: numbers or arrays that broadcast -> that shape."""
        return self.E + self.A / positive("N", N) ** self.alpha + self.B / positive("D", D) ** self.beta

    @property
    def parameters_exponent(self) -> float:
        """a in N* ~ C^a: beta / (alpha + beta)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def tokens_exponent(self) -> float:
        """b in D* ~ C^b: alpha / (alpha + beta), which is 1 - a."""
        return self.alpha / (self.alpha + self.beta)

    def best(self, flops: float) -> Allocation:
        """The compute-optimal choice at C = 6ND = `flops`. Source: Hoffmann et al. 2022, equation 4.

        At the optimum alpha A / N^alpha = beta B / D^beta; with ND = C / 6 that gives N* = G (C/6)^a and
        D* = (C/6)^b / G, where G = (alpha A / (beta B))^(1 / (alpha + beta)).
        """
        product = positive("flops", flops) / 6
        G = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        N = G * product**self.parameters_exponent
        D = product**self.tokens_exponent / G
        return Allocation(N, D, self.loss(N, D))

    def isoflop(self, N, flops: float) -> Allocation:
        """All of a budget on models of N parameters: D = C / 6N."""
        D = positive("flops", flops) / 6 / positive("N", N)
        return Allocation(N, D, self.loss(N, D))

    def tokens_to_reach(self, loss: float, N: float) -> float:
        """Tokens after which N parameters have this loss; infinite if the model is too small ever to have it."""
        if math.isnan(loss):
            raise ValueError("The loss is nan; give a number, nats per token.")
        left = loss - self.E - self.A / positive("N", N) ** self.alpha
        return math.inf if left <= 0 else (self.B / left) ** (1 / self.beta)

    def flops_to_reach(self, loss: float) -> float:
        """The least training compute for this loss: that of the compute-optimal model."""
        if not loss > self.E:
            raise ValueError(f"The loss {loss} is not above E = {self.E}, which no amount of compute gets below.")
        # Along the optimum both terms fall as C^-(alpha beta / (alpha + beta)), so L*(C) - E is one power of C.
        one = self.best(6.0)
        power = self.alpha * self.beta / (self.alpha + self.beta)
        return 6 * ((one.loss - self.E) / (loss - self.E)) ** (1 / power)

    def best_with_serving(self, loss: float, served_tokens: float) -> Allocation:
        """The model of this loss for which training and answering together cost least: 6ND + 2N * `served_tokens`.

        Where the derivative along D(N) is zero, D (beta B / D^beta - alpha A / N^alpha) + S/3 * beta B / D^beta = 0.
        Source: Sardana et al. 2024 (arXiv 2401.00448), who solve it numerically, too.
        """
        if not 0 <= served_tokens < math.inf:
            raise ValueError(f"served_tokens is {served_tokens}; give a finite number, 0 or more.")
        N_best = self.best(self.flops_to_reach(loss)).N
        smallest = (self.A / (loss - self.E)) ** (1 / self.alpha)  # with endless data

        def slope(log_N: float) -> float:
            N = math.exp(log_N)
            D = self.tokens_to_reach(loss, N)
            if math.isinf(D):
                return -1.0
            data, model = self.beta * self.B / D**self.beta, self.alpha * self.A / N**self.alpha
            return 1 + served_tokens / (3 * D) - model / data

        N = math.exp(brentq(slope, math.log(smallest) + 1e-9, math.log(N_best) + 1e-6, xtol=1e-12))
        D = self.tokens_to_reach(loss, N)
        return Allocation(N, D, self.loss(N, D))


HOFFMANN = LossLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)  # as printed, rounded
HOFFMANN_UNROUNDED = LossLaw(E=1.6934, A=406.4, B=410.7, alpha=0.33917, beta=0.28491)  # from the paper's source
BESIROGLU = LossLaw(E=1.8169, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)  # Besiroglu et al. 2024, their notebook

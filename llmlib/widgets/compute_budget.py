"""The figure ComputeBudget: how to spend a training budget, by a loss law of the reader's choice."""

import html
import math
from collections.abc import Sequence
from typing import Any

import traitlets

from llmlib.scaling import BESIROGLU, HOFFMANN, HOFFMANN_UNROUNDED, LossLaw
from llmlib.widgets.base import BookWidget, table_html
from llmlib.widgets.checks import one_of

LEAST_LOG_FLOPS, MOST_LOG_FLOPS, SIZES = 12.0, 26.0, 40

# Parameters and tokens as their makers state them, and where; of a mixture of experts, the parameters a token uses.
KNOWN_MODELS = (
    ("GPT-3", 175e9, 300e9, "Brown et al. 2020, arXiv 2005.14165"),
    ("Gopher", 280e9, 300e9, "Rae et al. 2021, arXiv 2112.11446"),
    ("Chinchilla", 70e9, 1.4e12, "Hoffmann et al. 2022, arXiv 2203.15556"),
    ("PaLM", 540e9, 780e9, "Chowdhery et al. 2022, arXiv 2204.02311"),
    ("LLaMA 65B", 65e9, 1.4e12, "Touvron et al. 2023, arXiv 2302.13971"),
    ("Llama 2 7B", 7e9, 2e12, "Touvron et al. 2023, arXiv 2307.09288"),
    ("Llama 2 70B", 70e9, 2e12, "Touvron et al. 2023, arXiv 2307.09288"),
    ("Llama 3 8B", 8e9, 15e12, "Grattafiori et al. 2024, arXiv 2407.21783"),
    ("Llama 3 70B", 70e9, 15e12, "Grattafiori et al. 2024, arXiv 2407.21783"),
    ("Pythia 12B", 12e9, 299.9e9, "Biderman et al. 2023, arXiv 2304.01373"),
    ("SmolLM2 135M", 135e6, 2e12, "Allal et al. 2025, arXiv 2502.02737"),
    ("DeepSeek-V3", 37e9, 14.8e12, "DeepSeek-AI 2024, arXiv 2412.19437"),
)
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # FLOP/s as NVIDIA states them: 16 bits, without sparsity


def _law_state(label: str, law: LossLaw, least_N: float, most_N: float) -> dict[str, Any]:
    constants = {name: getattr(law, name) for name in ("E", "A", "B", "alpha", "beta")}
    return {"label": label, "least_N": least_N, "most_N": most_N} | constants


class ComputeBudget(BookWidget):
    """Walk along a training budget C = 6ND and compare the loss of a choice of N and D with that of the best.

    `own` is a law of the reader's or the book's, such as one that `fit_loss_law` gave; `runs` are the runs that it was
    fitted to, [[N, D], ...]; `own_flops_per_second` is the speed that one core reached in them. Published laws are
    there without being given.

    The reader's side: `log_flops` is log10 of the budget in FLOP, from 12 to 26; `size` from 0 to 40 is the place along
    the budget, ten steps to a factor of ten, 20 the best size; `constants` names the law ("rounded" or "unrounded" for
    Hoffmann et al., "besiroglu", "own"), `machine` the hardware ("h100", "h200", "a100", "core"), `percent` the share
    of its peak that is used, `watts` the power it draws; `known` says whether known models are drawn.

    >>> figure = ComputeBudget(log_flops=math.log10(5.76e23), constants="besiroglu")
    >>> f"{figure.yours.N:.3g} parameters, {figure.yours.tokens_per_parameter:.1f} tokens each"
    '7.22e+10 parameters, 18.4 tokens each'

    Raises traitlets.TraitError, with what is allowed, for a value that the figure cannot show.
    """

    _module = "compute_budget"

    laws = traitlets.Dict(help="Loss laws by key: label, constants, and the sizes that they were fitted to.").tag(
        sync=True
    )
    constants = traitlets.Unicode("besiroglu", help="Key of the law in use.").tag(sync=True)
    log_flops = traitlets.Float(20.0, help="log10 of the budget in FLOP.").tag(sync=True)
    size = traitlets.Int(SIZES // 2, help="Place along the budget: N = N* 10^((size - 20) / 10).").tag(sync=True)
    machines = traitlets.Dict(help="Hardware by key: label, FLOP/s, and whether that was measured.").tag(sync=True)
    machine = traitlets.Unicode("h100", help="Key of the hardware in use.").tag(sync=True)
    percent = traitlets.Float(40.0, help="Share of the hardware's peak that is used, per cent.").tag(sync=True)
    watts = traitlets.Float(1000.0, help="Power that one device draws, with its share of cooling, watts.").tag(
        sync=True
    )
    known = traitlets.Bool(True, help="Whether known models are drawn.").tag(sync=True)
    models = traitlets.List(help="Known models: [name, parameters, tokens, source].").tag(sync=True)
    runs = traitlets.List(help="Runs behind the own law: [parameters, tokens].").tag(sync=True)

    def __init__(
        self,
        own: LossLaw | None = None,
        runs: Sequence[Sequence[float]] = (),
        own_flops_per_second: float | None = None,
        **state: Any,
    ) -> None:
        laws = {
            "besiroglu": _law_state("Besiroglu et al. 2024", BESIROGLU, 70e6, 16e9),
            "unrounded": _law_state("Hoffmann et al. 2022, unrounded", HOFFMANN_UNROUNDED, 70e6, 16e9),
            "rounded": _law_state("Hoffmann et al. 2022, as printed", HOFFMANN, 70e6, 16e9),
        }
        runs = [[float(N), float(D)] for N, D in runs]
        if own is not None:
            sizes = [N for N, _ in runs] or [1.0]
            laws["own"] = _law_state("this book's runs", own, min(sizes), max(sizes))
        machines = {
            name.lower(): {
                "label": f"{name} ({peak / 1e12:.0f} TFLOP/s at its peak)",
                "flops_per_second": peak,
                "measured": False,
            }
            for name, peak in PEAKS.items()
        }
        if own_flops_per_second is not None:
            speed = _above_zero("own_flops_per_second", own_flops_per_second)
            label = f"core of the book's runs ({speed / 1e9:.2g} GFLOP/s, measured)"
            machines["core"] = {"label": label, "flops_per_second": speed, "measured": True}
        state.setdefault(
            "caption",
            "A training budget of C = 6ND floating-point operations, and the loss that a law fitted to many runs "
            "expects of each way to spend it. Crosses are models whose makers state N and D, dots the book's own runs. "
            "The peaks are those that NVIDIA states for numbers of 16 bits without sparsity; the share of them that is "
            "used and the power are yours to assume. The table names the source of each model.",
        )
        super().__init__(laws=laws, machines=machines, models=[list(m) for m in KNOWN_MODELS], runs=runs, **state)

    @property
    def law(self) -> LossLaw:
        """The law in use."""
        return LossLaw(**{name: self.laws[self.constants][name] for name in ("E", "A", "B", "alpha", "beta")})

    @property
    def best(self):
        """The compute-optimal choice for this budget."""
        return self.law.best(10**self.log_flops)

    @property
    def yours(self):
        """The choice that is shown."""
        return self.law.isoflop(self.best.N * 10 ** ((self.size - SIZES / 2) / 10), 10**self.log_flops)

    @property
    def days(self) -> float:
        """Days that the budget takes on one device."""
        machine = self.machines[self.machine]
        share = 1.0 if machine["measured"] else self.percent / 100
        return 10**self.log_flops / (machine["flops_per_second"] * share) / 86400

    @property
    def kilowatt_hours(self) -> float:
        """Energy that the budget takes on one device, kWh."""
        return self.days * 24 * self.watts / 1000

    @traitlets.validate("constants")
    def _check_constants(self, proposal: dict) -> str:
        return one_of("constants", proposal["value"], self.laws)

    @traitlets.validate("machine")
    def _check_machine(self, proposal: dict) -> str:
        return one_of("machine", proposal["value"], self.machines)

    @traitlets.validate("log_flops")
    def _check_log_flops(self, proposal: dict) -> float:
        return _between("log_flops", proposal["value"], LEAST_LOG_FLOPS, MOST_LOG_FLOPS, "log10 of a budget in FLOP")

    @traitlets.validate("size")
    def _check_size(self, proposal: dict) -> int:
        return int(_between("size", proposal["value"], 0, SIZES, "20 is the best size"))

    @traitlets.validate("percent")
    def _check_percent(self, proposal: dict) -> float:
        return _between("percent", proposal["value"], 1, 100, "per cent of the hardware's peak")

    @traitlets.validate("watts")
    def _check_watts(self, proposal: dict) -> float:
        return _between("watts", proposal["value"], 1, 100_000, "watts")

    @traitlets.validate("laws")
    def _check_laws(self, proposal: dict) -> dict[str, Any]:
        for key, law in proposal["value"].items():
            try:
                LossLaw(**{name: law[name] for name in ("E", "A", "B", "alpha", "beta")})
            except (KeyError, TypeError, ValueError) as error:
                raise traitlets.TraitError(f"The law {key!r} cannot be used: {error}") from None
        return proposal["value"]

    def fallback(self) -> str:
        yours, best, flops = self.yours, self.best, 10**self.log_flops
        words = (
            f"<p>A budget of {flops:.3g} FLOP: {self.days:.3g} days of one "
            f"{html.escape(self.machines[self.machine]['label'])}, {self.kilowatt_hours:.3g} kWh. By the constants of "
            f"{html.escape(self.laws[self.constants]['label'])} it is spent best on {best.N:.3g} parameters and "
            f"{best.D:.3g} tokens. The loss is in nats per token.</p>"
        )
        rows = [("your choice", yours.N, yours.D), ("the best", best.N, best.D), *self.models]
        head = ["model", "N", "D", "D / N", "C = 6ND", "loss by this law", "best loss at C", "N and D by"]
        return words + table_html(head, (self._row(*row) for row in rows))

    def _row(self, name: str, N: float, D: float, source: str = "") -> list[str]:
        losses = self.law.loss(N, D), self.law.best(6 * N * D).loss
        return [
            name,
            f"{N:.3g}",
            f"{D:.3g}",
            f"{D / N:.3g}",
            f"{6 * N * D:.3g}",
            *(f"{loss:.3f}" for loss in losses),
            source,
        ]


def _between(name: str, value: float, least: float, most: float, what: str) -> float:
    if not (math.isfinite(value) and least <= value <= most):
        raise traitlets.TraitError(f"{name} is {value}; give a number from {least:g} to {most:g} ({what}).")
    return value


def _above_zero(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise traitlets.TraitError(f"{name} is {value}; it has to be a finite number above 0.")
    return float(value)

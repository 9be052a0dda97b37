"""The figure MatrixSplit: a product X W whose weight is cut by columns or by rows over several devices."""

import html
import re
from typing import Any

import traitlets

from llmlib.widgets.base import BookWidget, table_html
from llmlib.widgets.checks import one_of

SPLITS = ("columns", "rows")
MAX_DEVICES, MAX_ROWS, MAX_COLUMNS, MAX_ENTRY = 4, 6, 6, 9
BYTES = (2, 4)
Matrix = list[list[int]]


class MatrixSplit(BookWidget):
    """Y = X W on 1 to 4 devices, step by step: what each holds, what it computes, what it sends.

    `x` and `w` are texts, a row a line, of whole numbers from -9 to 9; up to 6 rows and 6 columns. `split` is 'columns'
    or 'rows' of W; `number_bytes` is what one number takes when it is sent. Step 0 is the whole product, 1 cuts it, 2
    computes, and from 3 on the devices communicate in a ring: an all-gather for columns, an all-reduce for rows.

    >>> figure = MatrixSplit(x="1 2 3 4", w="1 0\\n0 1\\n1 1\\n2 0", split="rows", devices=2)
    >>> [step.y for step in figure.steps()[2]], [step.y for step in figure.steps()[-1]]
    ([[[1, 2]], [[11, 3]]], [[[12, 5]], [[12, 5]]])
    >>> [step.sent_bytes for step in figure.steps()[-1]]
    [4, 4]

    Raises traitlets.TraitError, with what is allowed, for a value that the figure cannot show. Two values that are each
    allowed and do not go together, such as 2 devices for 3 columns, are told in `problem`.
    """

    _module = "matrix_split"

    x = traitlets.Unicode("1 2 0 1\n3 1 2 0", help="The input X, (B, C): a row a line.").tag(sync=True)
    w = traitlets.Unicode("1 0 2 1\n0 1 1 3\n2 1 0 1\n1 2 1 0", help="The weight W, (C, F): a row a line.").tag(
        sync=True
    )
    split = traitlets.Unicode("columns", help="How W is cut: 'columns' or 'rows'.").tag(sync=True)
    devices = traitlets.Int(2, help="Devices, 1 to 4.").tag(sync=True)
    number_bytes = traitlets.Int(2, help="Bytes of a number on the way: 2 or 4.").tag(sync=True)
    step = traitlets.Int(0, help="Steps made; beyond the last, the last.").tag(sync=True)

    def __init__(self, **state: Any) -> None:
        state.setdefault(
            "caption",
            "A matrix product on several devices: what each holds and computes, and what goes from one to the next. "
            "Computed here, from the numbers above.",
        )
        super().__init__(**state)

    @property
    def problem(self) -> str:
        """Why these values do not go together, in one sentence, or nothing."""
        return mismatch(matrix(self.x, "X"), matrix(self.w, "W"), self.split, self.devices)

    def steps(self) -> "list[list[Device]]":
        """The devices after each step. Raises ValueError with the problem, if there is one."""
        if self.problem:
            raise ValueError(self.problem)
        return split_steps(matrix(self.x, "X"), matrix(self.w, "W"), self.split, self.devices, self.number_bytes)

    @traitlets.validate("x", "w")
    def _check_matrix(self, proposal: dict) -> str:
        try:
            matrix(proposal["value"], proposal["trait"].name.upper())
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from None
        return proposal["value"]

    @traitlets.validate("split", "devices", "number_bytes")
    def _check_choice(self, proposal: dict) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        allowed = {"split": SPLITS, "devices": range(1, MAX_DEVICES + 1), "number_bytes": BYTES}[name]
        return one_of(name, value, allowed)

    @traitlets.validate("step")
    def _check_step(self, proposal: dict) -> int:
        if not 0 <= proposal["value"] <= 99:
            raise traitlets.TraitError(f"step is {proposal['value']}; choose a step from 0 to 99.")
        return proposal["value"]

    def fallback(self) -> str:
        if self.problem:
            return f"<p>{html.escape(self.problem)}</p>"
        steps = self.steps()
        words = (
            f"<p>The product of X, {_shape(matrix(self.x, 'X'))}, and W, {_shape(matrix(self.w, 'W'))}, with W cut by "
            f"{self.split} over {self.devices} devices. After {len(steps) - 1} steps every device has the whole "
            f"product.</p>"
        )
        rows = [
            [device, _text(computed.y), _text(last.y), last.sent_bytes]
            for device, (computed, last) in enumerate(zip(steps[2], steps[-1], strict=True))
        ]
        head = ["device", "computes by itself", "has in the end", "bytes sent"]
        return words + table_html(head, rows)


class Device:
    """A device after a step: the columns of X and the part of W that it holds, its entries of Y, and what it sends now.

    `y` has None where an entry is not known; `sends` lists the entries (row, column) sent in this step to the next
    device, `sent_bytes` counts all bytes so far.
    """

    def __init__(self, x_columns: range, w_rows: range, w_columns: range, y: list[list[int | None]]) -> None:
        self.x_columns, self.w_rows, self.w_columns, self.y = x_columns, w_rows, w_columns, y
        self.sends: list[tuple[int, int]] = []
        self.sent_bytes = 0

    def after(self) -> "Device":
        """The same device as the next step finds it."""
        following = Device(self.x_columns, self.w_rows, self.w_columns, [list(row) for row in self.y])
        following.sent_bytes = self.sent_bytes
        return following


def matrix(text: str, name: str) -> Matrix:
    """Rows of whole numbers from a text: a row a line (or after a semicolon), numbers apart by spaces or commas.

    >>> matrix("1 2; 3 -4", "X")
    [[1, 2], [3, -4]]

    Raises ValueError with one sentence on what is wrong.
    """
    lines = [line.strip(" \t,") for line in re.split(r"[\r\n;]+", text)]
    rows = [re.split(r"[ \t,]+", line) for line in lines if line]
    if not rows:
        raise ValueError(f"{name} is empty; write its rows on lines of their own, such as 1 2 and 3 4.")
    for number, row in enumerate(rows, start=1):
        for part in row:
            if not re.fullmatch(r"[-−+]?[0-9]{1,3}", part) or abs(_number(part)) > MAX_ENTRY:
                shown = part if len(part) <= 12 else f"{part[:12]}…"
                raise ValueError(
                    f"{name} holds “{shown}” in row {number}; write whole numbers from -{MAX_ENTRY} to {MAX_ENTRY}, "
                    f"separated by spaces."
                )
        if len(row) != len(rows[0]):
            raise ValueError(
                f"Row {number} of {name} has {_count(len(row), 'number')} and row 1 has {len(rows[0])}; "
                f"give all rows the same length."
            )
    if len(rows) > MAX_ROWS or len(rows[0]) > MAX_COLUMNS:
        raise ValueError(
            f"{name} has {_count(len(rows), 'row')} and {_count(len(rows[0]), 'column')}; up to {MAX_ROWS} rows and "
            f"{MAX_COLUMNS} columns are drawn."
        )
    return [[_number(part) for part in row] for row in rows]


def mismatch(x: Matrix, w: Matrix, split: str, devices: int) -> str:
    """Why X W cannot be computed in this way, in one sentence, or nothing.

    >>> mismatch([[1, 2]], [[1], [2]], "columns", 2)
    'W has 1 column, which 2 devices cannot share equally; take 1 device, or another W.'
    """
    if len(x[0]) != len(w):
        return (
            f"X has {_count(len(x[0]), 'column')} and W has {_count(len(w), 'row')}; X W needs as many columns in X as "
            f"there are rows in W."
        )
    size = len(w[0]) if split == "columns" else len(w)
    if size % devices:
        fitting = [n for n in range(1, MAX_DEVICES + 1) if size % n == 0]
        return (
            f"W has {_count(size, split[:-1])}, which {devices} devices cannot share equally; take "
            f"{' or '.join(map(str, fitting))} {'device' if fitting == [1] else 'devices'}, or another W."
        )
    return ""


def split_steps(x: Matrix, w: Matrix, split: str, devices: int, number_bytes: int) -> list[list[Device]]:
    """The devices after each step: cut, computed, and communicated in a ring, in which d sends to d + 1.

    For columns, the ring's n - 1 steps pass the blocks of Y on (all-gather). For rows, Y's entries, read row by row,
    are cut into n chunks; n - 1 steps pass sums on (reduce-scatter), n - 1 more the finished chunks (all-gather):
    together the ring all-reduce, in which each device sends 2(n-1)/n of Y (Patarasuk and Yuan, 2009).
    """
    B, C, F, n = len(x), len(w), len(w[0]), devices
    blank: list[list[int | None]] = [[None] * F for _ in range(B)]
    now = []
    for d in range(n):
        inner = range(C) if split == "columns" else range(d * C // n, (d + 1) * C // n)
        outer = range(d * F // n, (d + 1) * F // n) if split == "columns" else range(F)
        now.append(Device(inner, inner, outer, blank))
    steps = [now, [device.after() for device in now]]
    now = [device.after() for device in now]
    for device in now:
        for b in range(B):
            for f in device.w_columns:
                device.y[b][f] = sum(x[b][c] * w[c][f] for c in device.x_columns)
    steps.append(now)
    entries = [(b, f) for b in range(B) for f in range(F)]
    if split == "columns":
        chunks = [[(b, f) for b, f in entries if f in device.w_columns] for device in now]
    else:
        chunks = [entries[d * len(entries) // n : (d + 1) * len(entries) // n] for d in range(n)]
    for k in range(n - 1 if split == "columns" else 2 * (n - 1)):
        summing = split == "rows" and k < n - 1
        before, now = now, [device.after() for device in now]
        for d in range(n):
            sent = chunks[(d - k) % n]
            receiver = now[(d + 1) % n]
            now[d].sends = list(sent)
            now[d].sent_bytes += number_bytes * len(sent)
            for b, f in sent:
                receiver.y[b][f] = before[d].y[b][f] + (before[(d + 1) % n].y[b][f] if summing else 0)
        steps.append(now)
    return steps


def _count(size: int, noun: str) -> str:
    return f"{size} {noun}" if size == 1 else f"{size} {noun}s"


def _number(part: str) -> int:
    return int(part.replace("−", "-"))


def _shape(of: Matrix) -> str:
    return f"({len(of)}, {len(of[0])})"


def _text(y: list[list[int | None]]) -> str:
    return "; ".join(" ".join("·" if entry is None else str(entry) for entry in row) for row in y)

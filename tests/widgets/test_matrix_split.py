"""MatrixSplit in Python and in JavaScript: the same entries, bytes and sentences; the truth is the product itself."""

import random
import re

import numpy as np
import pytest
from figures import in_node
from traitlets import TraitError

from llmlib.widgets import MatrixSplit
from llmlib.widgets.matrix_split import matrix, mismatch, split_steps


def run(node, folder, code, data=None):
    return in_node(node, folder, "matrix_parts", code, data)


def products(n=400):
    dice = random.Random(3)
    for _ in range(n):
        split, devices = dice.choice(["columns", "rows"]), dice.randint(1, 4)
        B, C, F = (dice.randint(1, 6) for _ in range(3))
        cut = dice.choice([k for k in range(1, 7) if k % devices == 0] or [devices])
        C, F = (C, cut) if split == "columns" else (cut, F)
        x, w = ([[dice.randint(-9, 9) for _ in range(n)] for _ in range(m)] for m, n in ((B, C), (C, F)))
        yield x, w, split, devices, dice.choice([2, 4])


def test_every_device_ends_with_the_product_and_has_sent_what_the_ring_costs():
    """The product is numpy's; a ring all-gather sends (n-1)/n of Y, an all-reduce 2(n-1)/n (Patarasuk & Yuan 2009)."""
    for x, w, split, n, number_bytes in products():
        steps = split_steps(x, w, split, n, number_bytes)
        truth = (np.array(x) @ np.array(w)).tolist()
        assert [device.y for device in steps[-1]] == [truth] * n
        assert len(steps) == 3 + (n - 1) * (1 if split == "columns" else 2)
        y_bytes = number_bytes * len(x) * len(w[0])
        sent = sum(device.sent_bytes for device in steps[-1])
        assert sent == (n - 1) * y_bytes * (1 if split == "columns" else 2)
        computed = steps[2]
        if split == "rows":  # partial products add up to the product
            assert np.array([device.y for device in computed]).sum(0).tolist() == truth
        else:
            assert all(
                device.y[b][f] == (truth[b][f] if f in device.w_columns else None)
                for device in computed for b in range(len(x)) for f in range(len(w[0]))
            )  # fmt: skip


def test_javascript_and_python_agree_in_every_step(node, tmp_path):
    cases = list(products())
    code = """out = data.map(([x, w, split, n, numberBytes]) => splitSteps(x, w, split, n, numberBytes).map((step) =>
      step.map((d) => [d.xColumns, d.wRows, d.wColumns, d.y, d.sends, d.sentBytes])));"""
    for case, got in zip(cases, run(node, tmp_path, code, cases), strict=True):
        ours = [
            [
                [[r.start, r.stop] for r in (d.x_columns, d.w_rows, d.w_columns)]
                + [d.y, [list(entry) for entry in d.sends], d.sent_bytes]
                for d in step
            ]
            for step in split_steps(*case)
        ]
        assert ours == got


def test_javascript_and_python_read_and_refuse_the_same(node, tmp_path):
    dice = random.Random(4)
    parts = ["1", "-9", "−3", "+2", "10", "a", "1.5", "007", "１", "", " ", "\t", ",", ";", "\n", "\r\n", "é", "𝟙" * 13]
    texts = ["".join(dice.choice([*parts, " ", " ", "4", "5"]) for _ in range(dice.randint(0, 14))) for _ in range(500)]
    texts += ["1 2; 3 4", " 1,2 \n\n 3 , 4;", "1 2\n3", "1 2 3 4 5 6 7", "1\n" * 7, "−0 -0"]
    code = """out = data.map((text) => {
      try { return parseMatrix(text, "X"); } catch (error) { return error.message; } });"""
    sound = 0
    for text, got in zip(texts, run(node, tmp_path, code, texts), strict=True):
        try:
            ours = matrix(text, "X")
            sound += 1
        except ValueError as error:
            ours = str(error)
        assert ours == got, text
    assert 20 < sound < 480
    shapes = [[dice.randint(1, 6), dice.randint(1, 6), dice.randint(1, 6), s, n] for s in ("rows", "columns")
              for n in range(1, 5) for _ in range(20)]  # fmt: skip
    code = """const ones = (rows, columns) => Array(rows).fill(Array(columns).fill(1));
      out = data.map(([c, rows, f, split, n]) => mismatchOf(ones(1, c), ones(rows, f), split, n));"""
    for (c, rows, f, split, n), got in zip(shapes, run(node, tmp_path, code, shapes), strict=True):
        assert mismatch([[1] * c], [[1] * f] * rows, split, n) == got


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"x": " \n"}, "X is empty; write its rows on lines of their own, such as 1 2 and 3 4."),
        ({"w": "1 2\n3 x"}, "W holds “x” in row 2; write whole numbers from -9 to 9, separated by spaces."),
        ({"x": "1 10"}, "X holds “10” in row 1"),
        ({"x": "1 2\n3"}, "Row 2 of X has 1 number and row 1 has 2; give all rows the same length."),
        ({"w": "1 2 3 4 5 6 7"}, "W has 1 row and 7 columns; up to 6 rows and 6 columns are drawn."),
        ({"split": "blocks"}, "split is 'blocks'; choose one of 'columns', 'rows'."),
        ({"devices": 5}, "devices is 5; choose one of 1, 2, 3, 4."),
        ({"number_bytes": 3}, "number_bytes is 3; choose one of 2, 4."),
        ({"step": -1}, "step is -1; choose a step from 0 to 99."),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_sentence(state, message):
    with pytest.raises(TraitError, match=re.escape(message)):
        MatrixSplit(**state)


def test_what_does_not_go_together_is_told():
    figure = MatrixSplit(devices=3)
    assert figure.problem == (
        "W has 4 columns, which 3 devices cannot share equally; take 1 or 2 or 4 devices, or another W."
    )
    assert figure.problem in figure.fallback()
    with pytest.raises(ValueError, match="cannot share equally"):
        figure.steps()
    figure.x = "1 2 3"
    assert figure.problem.startswith("X has 3 columns and W has 4 rows;")
    figure.x, figure.devices = "1 2 0 1", 2
    assert figure.problem == ""
    assert "<td>0</td><td>2 4 · ·</td><td>2 4 5 7</td><td>4</td>" in figure.fallback()

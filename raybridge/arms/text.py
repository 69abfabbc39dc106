"""Arms that read the question as text: what each model does alone, and with fewer tokens."""

from __future__ import annotations

from raybridge.arms.arm import BLACK, GREEN, ORANGE, WithQuestion

SOURCE = WithQuestion(
    name="source",
    answered_by="source",
    reads_text=True,
    in_sweeps=("dev", "test"),
    look={"color": ORANGE, "linestyle": "-.", "marker": "v"},
    order=10,
)
TARGET = WithQuestion(
    name="target",
    reads_text=True,
    in_sweeps=("dev", "test"),
    look={"color": BLACK, "linestyle": "-", "marker": "s"},
    order=20,
)
TOKEN_BUDGET = WithQuestion(
    name="token_budget",
    reads_text=True,
    cut_to_k=True,
    of_k=True,
    in_sweeps=("dev", "test"),
    look={"color": GREEN, "linestyle": "-.", "marker": "^"},
    order=100,
)

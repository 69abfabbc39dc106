"""Format alone: the question as text behind a prompt that was tuned with the same data and steps; the fair ceiling."""

from __future__ import annotations

from raybridge.arms.arm import GREEN, Arm

FORMAT_ONLY = Arm(
    name="format_only",
    trained=True,
    borrows="bridged_with_text",
    of_translator="FormatOnly",
    against="target",
    look={"color": GREEN, "linestyle": "-", "marker": "h"},
    order=61,
)

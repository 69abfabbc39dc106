"""The constant prompt: soft tokens that were learned and are the same for every problem, which every bridge must beat."""

from __future__ import annotations

from raybridge.arms.arm import GREEN, Arm

PROMPT_TUNING = Arm(
    name="prompt_tuning",
    trained=True,
    borrows="bridged",
    of_translator="PromptTuning",
    look={"color": GREEN, "linestyle": ":", "marker": "H"},
    order=60,
)

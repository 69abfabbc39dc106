"""The target adapted: the question as text before a target with a small LoRA, trained with the same data and steps."""

from __future__ import annotations

from raybridge.arms.arm import BLACK, Arm

RECEIVER_LORA = Arm(
    name="receiver_lora",
    trained=True,
    borrows="bridged_with_text",
    of_translator="ReceiverLoRA",
    against="format_only",
    look={"color": BLACK, "linestyle": "-.", "marker": "H"},
    order=62,
)

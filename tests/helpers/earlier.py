"""The records of an earlier run, made up: what the tests of imports and comparisons share."""

import re

PREFIX = "Answer step by step.\n\nQ: Bo has 3 nuts and buys 4. How many?\nA: 3+4=7\n#### 7\n\n"

LOG = """\
==== Config ====
source_model: made/source
target_model: made/target
soft_tokens: {soft_tokens}
eval_prompt_mode: {mode}
train_steps: 40
early_stop_patience: 2
seed: 7
log_dir: somewhere/else

  Soft token count (K): {used}
Step 20/40 | Loss (avg over last 20): 4.5
Step 40/40 | Loss (avg over last 20): nan
[Eval] Step 40 | Source-alone acc: 0.500 | Target-alone acc: 1.000 | Bridged acc: 0.750
"""


def line(step: str, index: int, **changes) -> dict:
    """A recorded problem whose gold is index + 10, answered by the target and by nobody else."""
    question = f"{PREFIX}Q: Bo has {index} nuts and buys 10. How many?\nA:"
    gold = index + 10
    answers = {arm: gold if arm == "target" else 7 for arm in ("source", "target", "bridged")}
    return {
        "eval_step": step,
        "index": index,
        "question": question,
        "gold_full_text": f"{question} {index}+10={gold}\n#### {gold}",
        "gold_extracted": str(gold),
        **{f"{arm}_full": f"So it is\n#### {answer}" for arm, answer in answers.items()},
        **{f"{arm}_extracted": str(answer) for arm, answer in answers.items()},
    } | changes


def run_of(step: str, right: set[int], count: int = 8) -> list[dict]:
    """`count` problems of which the bridge answers `right` as the gold has it."""
    return [
        line(step, i, **({"bridged_full": f"#### {i + 10}", "bridged_extracted": str(i + 10)} if i in right else {}))
        for i in range(count)
    ]


def said(result) -> str:
    return re.sub(r"\s+", " ", result.output)

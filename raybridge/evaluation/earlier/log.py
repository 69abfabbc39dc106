"""What an earlier run's train.log says: its options, losses, logged accuracies, and how many soft tokens it really had."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

OPTION = re.compile(r"(\w+): (.*)")
LOSS = re.compile(r"^Step (\d+)/\d+ \| Loss[^:]*: (-?[\d.]+(?:e[-+]?\d+)?|nan|-?inf)", re.MULTILINE | re.IGNORECASE)
ACCURACY = re.compile(
    r"^\[(?:Eval\] Step (\d+) \||Final Eval\]) Source-alone acc: ([\d.]+) \| Target-alone acc: ([\d.]+)"
    r" \| Bridged acc: ([\d.]+)",
    re.MULTILINE,
)
COUNTED = re.compile(r"Soft token count \(K\): (\d+)|Soft tokens not specified; capping to (\d+) tokens")
PATIENCE = re.compile(r"^\[Early Stop\].*patience: (\d+)/(\d+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class RunLog:
    """One train.log; empty where there is none. accuracies: by label ("250", "final"), then by arm."""

    found: bool
    config: dict[str, str] = field(default_factory=dict)
    soft_tokens: int | None = None
    losses: dict[int, float] = field(default_factory=dict)
    accuracies: dict[str, dict[str, float]] = field(default_factory=dict)
    stopped: str = "unknown"
    reason: str = "the run does not say"
    notes: tuple[str, ...] = ()

    @property
    def prompt_mode(self) -> str:
        """What stood in the target's prompt, such as "soft_plus_text"; empty if unknown."""
        return self.config.get("eval_prompt_mode", "")

    @property
    def seed(self) -> int | None:
        """What it was seeded with; None where the log does not say, or says None."""
        number = _number(self.config.get("seed"))
        return int(number) if number is not None and number.is_integer() else None

    @property
    def last_step(self) -> int | None:
        """The last logged step."""
        return max(self.losses, default=None)


def read_log(path: Path) -> RunLog:
    """Read a train.log; that there is none is a note, not an error."""
    if not path.is_file():
        return RunLog(found=False, notes=("there is no train.log: losses, options and soft tokens are unknown",))
    log = path.read_text(encoding="utf-8-sig", errors="replace")
    config = _config(log)
    soft_tokens, notes = _soft_tokens(config, log)
    losses = {int(match[1]): float(match[2]) for match in LOSS.finditer(log)}
    arms = ("source", "target", "bridged")
    accuracies = {
        match[1] or "final": dict(zip(arms, map(float, match.groups()[1:]), strict=True)) for match in ACCURACY.finditer(log)
    }
    if "text" in config.get("eval_prompt_mode", ""):
        notes.append(
            f"the prompt stood behind the soft tokens as text (eval_prompt_mode {config['eval_prompt_mode']}): "
            "what the run calls bridged is the arm bridged_with_text, and nothing was compressed"
        )
    elif not config.get("eval_prompt_mode"):
        notes.append("the log does not say whether text stood behind the soft tokens")
    if int(_number(config.get("early_stop_patience")) or 0) > 0:
        notes.append("early stopping read these test problems, so the peak is the best of several looks at them")
    stopped, reason = _ending(config, losses, log)
    return RunLog(
        found=True,
        config=config,
        soft_tokens=soft_tokens,
        losses=losses,
        accuracies=accuracies,
        stopped=stopped,
        reason=reason,
        notes=tuple(notes),
    )


def _config(log: str) -> dict[str, str]:
    """The options between "==== Config ====" and the next line that is none; log_dir and the like are of no use elsewhere."""
    _, found, rest = log.partition("==== Config ====\n")
    config = {}
    for line in rest.splitlines() if found else ():
        match = OPTION.fullmatch(line.strip())
        if not match:
            break
        if match[1] not in ("log_dir", "save_path"):
            config[match[1]] = match[2]
    return config


def _soft_tokens(config: dict[str, str], log: str) -> tuple[int | None, list[str]]:
    """Soft tokens as the run used them, which its option does not always say."""
    asked = _number(config.get("soft_tokens"))
    counted = COUNTED.search(log)
    used = int(counted[1] or counted[2]) if counted else int(asked) if asked and asked > 0 else None
    if used is None:
        return None, ["the log does not say how many soft tokens there were"]
    return used, [
        f"--soft_tokens {asked:g} was resolved to {used:,} soft tokens"
    ] if asked is not None and asked != used else []


def _number(value: str | None) -> float | None:
    """An option's value; None for one that is absent, None itself, or no finite number."""
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def _ending(config: dict[str, str], losses: dict[int, float], log: str) -> tuple[str, str]:
    """(stopped, reason) for result.json."""
    out = next((match for match in PATIENCE.finditer(log) if int(match[1]) >= int(match[2])), None)
    if out:
        return "patience", f"no improvement in {out[2]} evaluations"
    steps, last = _number(config.get("train_steps")), max(losses, default=0)
    if steps and last >= steps:
        return "finished", f"all {steps:g} steps"
    return "unknown", f"the log ends at step {last}" + (f" of {steps:g}" if steps else "")

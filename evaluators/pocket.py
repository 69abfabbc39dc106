"""Generated grade-school problems: what the pocket pair is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raybridge.data import SPLITS, Problem, Split, check_split, read_numbers, same_number, typed
from raybridge.pocket.problems import generated


@dataclass(frozen=True, kw_only=True)
class Pocket:
    """Generated problems in GSM8K's format, graded as GSM8K is.

    Example: "Ivy had 12 maps and lost 4. How many maps are left?" -> "Ivy has 12-4=<<12-4=8>>8 maps left.\\n#### 8".
    train, dev, test: how many problems of each split are generated.
    """

    VERSION: ClassVar[int] = 3  # 2: no computation twice in dev and test; numbers read whole. 3: gsm8k's version 2
    name: ClassVar[str] = "pocket"
    readings: ClassVar[tuple[str, ...]] = ("strict", "flexible")
    instruction: ClassVar[str] = ""
    before: ClassVar[str] = "Question:"
    after: ClassVar[str] = "\nAnswer:"
    stop: ClassVar[tuple[str, ...]] = ("\nQuestion:",)
    max_new_tokens: ClassVar[int] = 96

    train: int = 20_000
    dev: int = 400
    test: int = 400

    def __post_init__(self) -> None:
        typed(self)
        if min(self.train, self.dev, self.test) < 2:
            raise ValueError("pocket: each split needs at least 2 generated problems")

    def problems(self, split: Split) -> list[Problem]:
        """The generated problems of a split."""
        check_split(split, SPLITS, self.name)
        return list(generated(split, {"train": self.train, "dev": self.dev, "test": self.test}[split]))

    def exemplars(self) -> list[Problem]:
        """None: the pocket pair was trained on the format."""
        return []

    def read(self, completion: str) -> dict[str, str | None]:
        """Strict: what follows the first marker. Flexible: the last thing that looks like a number."""
        return read_numbers(completion)

    def grade(self, problem: Problem, completion: str) -> dict[str, bool | float]:
        """Whether each reading is the gold number."""
        return {reading: same_number(answer, problem.gold) for reading, answer in self.read(completion).items()}

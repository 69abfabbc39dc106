"""What a verification found: what was checked, what differs, what could not be checked and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from raybridge.errors import reason_of

SHOWN = 20  # differences of one kind that are told one by one


@dataclass(frozen=True)
class Findings:
    """Sentences."""

    checked: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def compared(self, what: str, differences: list[str]) -> None:
        """Take down a check: what was compared, and what differs in it."""
        if not differences:
            self.checked.append(what)
            return
        self.differs.extend(differences[:SHOWN])
        if (more := len(differences) - SHOWN) > 0:
            self.differs.append(f"{more} more of this kind: {what}")

    @contextmanager
    def held(self, what: str) -> Iterator[None]:
        """What cannot even be read, or made of what was read, differs from what was written."""
        try:
            yield
        except ValueError as error:
            self.differs.append(f"{what}: {error}")
        except (ArithmeticError, LookupError, TypeError) as error:  # rows from elsewhere may lack what a table is made of
            self.differs.append(f"{what}: cannot be made of the rows ({type(error).__name__}: {reason_of(error)})")

"""A trial as a person names it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from raybridge.errors import unknown
from raybridge.results.store import Results
from raybridge.results.trial_run import TrialRun


def find_trial(named: str, results: Results, *, commands: Sequence[str] = ()) -> TrialRun:
    """A trial by its directory, its directory's name, its name or the beginning of its fingerprint.

    commands: what may stand in a trial's place, and be mistyped.
    """
    path = Path(named)
    if (path / "trial.json").is_file():
        results = Results(path.resolve().parents[1])
        named = path.resolve().name
    trials = results.trials()
    fits = [
        run for run in trials if named in (run.path.name, run.name) or (len(named) >= 8 and run.fingerprint.startswith(named))
    ]
    if not fits:
        kind = "trial or command" if commands else "trial"
        raise unknown(kind, named, [*(run.path.name for run in trials), *commands], str(results.root))
    if len(fits) > 1:
        raise ValueError(
            f"{named!r} is the name of {len(fits)} trials: {', '.join(run.path.name for run in fits)}; give one of these"
        )
    return fits[0]

"""The trials of a view of results as a table, a row each: what was asked for, what it came to, and what to call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from raybridge.analysis.chosen import dev_score, judged_by, rank_of
from raybridge.analysis.labels import flattened, labels_of, seed_of, short
from raybridge.analysis.replicates import group_of
from raybridge.console import one_line
from raybridge.results import TrialRun

OF_THE_TRIAL = ["trial", "fingerprint", "label", "group", "seed", "pair", "K"]  # K: soft tokens of its translator
RESULTS = [f"result.{key}" for key in ("peak", "peak_step", "best_step", "final", "degradation", "steps", "stopped")]


def trials_of(
    runs: Mapping[str, TrialRun],
    *,
    config: Callable[[str], dict[str, Any]],
    contents: Callable[[str], dict[str, Any] | None],
    evals: Callable[[str], pd.DataFrame],
    names: Mapping[str, str],
    sweeps: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """A row for each trial; `dev`: the dev score that ranks it, that of the checkpoint that is tested, by the arm `judged_by`.

    rank: what it is chosen by among others (`chosen.rank_of`).

    config, contents, evals: by fingerprint. names: those that a sweep gave. sweeps: who asked for each.
    """
    called = short(config(fingerprint).get(which) for fingerprint in runs for which in ("source", "target"))
    rows = []
    for fingerprint, run in runs.items():
        asked, read, result = config(fingerprint), contents(fingerprint), run.result()
        told = result or {}
        arm, dev = judged_by(told, evals(fingerprint)["arm"]), dev_score(told, evals(fingerprint))
        rows.append(
            {
                "trial": one_line(names.get(fingerprint, run.name)),
                "fingerprint": fingerprint,
                "group": fingerprint if asked.get("imported") else group_of(asked, read),
                "seed": seed_of(asked),
                "pair": one_line(f"{called[asked.get('source')]} to {called[asked.get('target')]}"),
                "K": (asked.get("translator") or {}).get("soft_tokens"),
                "sweep": ",".join(sweeps.get(fingerprint, [])),
                "complete": result is not None,
                "imported": bool(asked.get("imported")),
                "judged_by": arm,
                "dev": dev,
                "rank": rank_of(dev, arm),
                "earlier": read is None and "evaluator" in asked and not asked.get("imported"),
                **flattened(asked, "config"),
                **flattened(told, "result"),
            }
        )
    columns = [*OF_THE_TRIAL, "sweep", "complete", "imported", "judged_by", "dev", "rank", "earlier", *RESULTS]
    trials = pd.DataFrame(rows)
    trials = trials.reindex(columns=[*columns, *(column for column in trials if column not in columns)])
    trials = trials.astype({"dev": float, "rank": float})
    return trials.assign(label=trials["group"].map(labels_of(trials))).copy()  # in one piece, to which columns are added

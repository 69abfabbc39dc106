"""Main results: every arm of the configuration that was best on dev, and the bridge against each of them.

Each pair on the problems that both answered; p of the paired tests Holm-corrected within a benchmark.
"""

from __future__ import annotations

import pandas as pd

from raybridge.plots import (
    ARMS,
    CONTROLS,
    Column,
    Runs,
    mean_gap,
    n_by_arm,
    of_first_reading,
    over_seeds,
    per_problem,
    seeds_of,
)
from raybridge.statistics import compare, corrected, marks

NEEDS = "python -m raybridge.sweep sweeps/compression.py"


def table(runs: Runs) -> pd.DataFrame:
    test = of_first_reading(runs.test[runs.test["arm"].isin(ARMS)])
    if test.empty:
        return pd.DataFrame()
    peaks = runs.trials.groupby("label")["result.peak"].mean()
    parts = []
    for _, part in test.groupby(["pair", "evaluator"], sort=False):
        label = peaks[part["label"].unique()].astype(float).fillna(-1.0).idxmax()
        parts.append(of_configuration(runs, part[part["label"] == label]))
    return pd.concat(parts, ignore_index=True)


def of_configuration(runs: Runs, rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each arm of one configuration on one benchmark."""
    arms = over_seeds(rows)
    arms = arms.sort_values("arm", key=lambda arm: arm.map(list(ARMS).index), ignore_index=True)
    scores = pd.DataFrame(
        {str(arm): next(iter(per_problem(runs, part, str(arm)).values())) for arm, part in rows.groupby("arm")}
    )
    bridge = "bridged" if "bridged" in scores else "bridged_with_text"
    whole = [arm for arm, n in scores.count().items() if n == scores.count().max() and arm not in CONTROLS]
    shared = scores[whole].dropna()
    bold = marks(
        {str(arm): shared[arm] for arm in whole}
    )  # an arm that answered fewer problems must not shrink the others' tests
    others = [arm for arm in arms["arm"] if arm != bridge] if bridge in scores else []
    pairs = [scores[[arm, bridge]].dropna() for arm in others]
    found = dict(zip(others, corrected([compare(pair.iloc[:, 0], pair.iloc[:, 1]) for pair in pairs]), strict=True))
    gaps = [mean_gap(runs, row)[0] for row in arms.to_dict("records")]
    arms["gap"] = pd.Series(gaps, dtype=float).mask(arms["arm"] == "source")  # another model's NLL closes no gap
    arms["mark"] = [bold.get(arm, "") for arm in arms["arm"]]
    arms["bridge_minus_arm"] = [found[arm].difference if arm in found else None for arm in arms["arm"]]
    arms["p_holm"] = [found[arm].p if arm in found else None for arm in arms["arm"]]
    arms["bridge_is"] = [found[arm].verdict if arm in found else None for arm in arms["arm"]]
    columns = ["pair", "evaluator", "label", "K", "arm", "reading", "accuracy", "low", "high", "mark", "nll", "gap"]
    return arms[[*columns, "bridge_minus_arm", "p_holm", "bridge_is", "n", "seeds", "fingerprint"]]


def columns(rows: pd.DataFrame) -> dict[str, Column]:
    return {
        **{name: Column(header="", heads=True) for name in ("evaluator", "pair", "label")},
        "arm": Column(header="Arm", format="words"),
        "accuracy": Column(header="Accuracy", format=".3f", low="low", high="high", mark="mark"),
        "nll": Column(header="NLL", format=".3f"),
        "gap": Column(header="Gap", format=".2f"),
        "bridge_minus_arm": Column(header="Bridge − arm", format="+.3f"),
        "p_holm": Column(header="p (Holm)", format="p"),
        "bridge_is": Column(header="Bridge is"),
    }


def caption(rows: pd.DataFrame) -> str:
    controlled = set(rows.loc[rows["arm"].isin(CONTROLS), "label"])
    uncontrolled = ", ".join(label for label in rows["label"].unique() if label not in controlled)
    return " ".join(
        [
            f"Every arm on {n_by_arm(rows)} test problems, {seeds_of(rows['seeds'])}; of several configurations, the one that",
            "was best on dev. Accuracy with its 95% Wilson interval, NLL per answer token, gap to the text recovered. Bold:",
            "better than every other arm that is no control (paired, Holm-corrected); †: the best and all that do not differ",
            "from it. The last columns compare the bridge with each arm on the problems that both answered.",
            *([f"No control was run for {uncontrolled}."] if uncontrolled else []),
        ]
    )

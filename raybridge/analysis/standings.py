"""Every arm of the configuration that was best on dev, and the bridge against each of them."""

from __future__ import annotations

import pandas as pd

from raybridge.analysis.configurations import mean_gap, per_problem
from raybridge.analysis.kinds import are, bridge, control, is_a, listed, ordered
from raybridge.analysis.measures import of_first_reading, over_seeds
from raybridge.analysis.runs import Runs
from raybridge.statistics import compare, corrected, marks


def standings(runs: Runs) -> pd.DataFrame:
    """A row for each (pair, benchmark, arm), in the order of arms.

    Each pair of arms on the problems that both answered; p of the paired tests Holm-corrected within a benchmark.
    """
    test = of_first_reading(runs.test[are(runs.test["arm"], listed)])
    if test.empty:
        return pd.DataFrame()
    peaks = runs.trials.groupby("label")["result.peak"].mean()
    parts = []
    for _, part in test.groupby(["pair", "evaluator"], sort=False):
        label = peaks[part["label"].unique()].astype(float).fillna(-1.0).idxmax()
        parts.append(_of_configuration(runs, part[part["label"] == label]))
    return pd.concat(parts, ignore_index=True)


def _of_configuration(runs: Runs, rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each arm of one configuration on one benchmark."""
    arms = over_seeds(rows)
    arms = arms.sort_values("arm", key=lambda arm: arm.map(ordered(arm).index), ignore_index=True)
    scores = pd.DataFrame(
        {str(arm): next(iter(per_problem(runs, part, str(arm)).values())) for arm, part in rows.groupby("arm")}
    )
    whole = [arm for arm, n in scores.count().items() if n == scores.count().max() and not is_a(str(arm), control)]
    shared = scores[whole].dropna()  # an arm that answered fewer problems must not shrink the others' tests
    bold = marks({str(arm): shared[arm] for arm in whole})
    bridges = ordered(map(str, scores), bridge)
    others = [arm for arm in arms["arm"] if arm != bridges[0]] if bridges else []
    both = {arm: scores[[arm, bridges[0]]].dropna() for arm in others}
    pairs = {arm: compare(pair.iloc[:, 0], pair.iloc[:, 1]) for arm, pair in both.items() if len(pair)}
    found = dict(zip(pairs, corrected(list(pairs.values())), strict=True))
    gaps = [mean_gap(runs, row)[0] for row in arms.to_dict("records")]
    elsewhere = are(arms["arm"], lambda arm: arm.answered_by == "source")  # another model's NLL closes no gap
    arms["gap"] = pd.Series(gaps, dtype=float).mask(elsewhere)
    arms["mark"] = [bold.get(arm, "") for arm in arms["arm"]]
    arms["bridge_minus_arm"] = [found[arm].difference if arm in found else None for arm in arms["arm"]]
    arms["p_holm"] = [found[arm].p if arm in found else None for arm in arms["arm"]]
    arms["bridge_is"] = [found[arm].verdict if arm in found else None for arm in arms["arm"]]
    columns = ["pair", "evaluator", "label", "K", "arm", "reading", "accuracy", "low", "high", "mark", "nll", "gap"]
    return arms[[*columns, "bridge_minus_arm", "p_holm", "bridge_is", "n", "seeds", "fingerprint"]]

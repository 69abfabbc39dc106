"""Every arm of the configuration that was best on dev, and the bridge against each of them."""

from __future__ import annotations

import pandas as pd

from raybridge.analysis.configurations import per_problem
from raybridge.analysis.kinds import are, bridge, listed, ordered, own_tokens
from raybridge.analysis.measures import of_first_reading
from raybridge.analysis.runs import Runs
from raybridge.analysis.seeds import mean_gap, over_seeds
from raybridge.statistics import compare, corrected


def standings(runs: Runs) -> pd.DataFrame:
    """A row for each (pair, benchmark, arm), in the order of arms.

    Each pair of arms on the problems that both answered; p of the paired tests Holm-corrected within a benchmark.
    """
    test = of_first_reading(runs.test[are(runs.test["arm"], listed)])
    if test.empty:
        return pd.DataFrame()
    rank = runs.trials.groupby("label")["rank"].mean()
    parts = []
    for _, part in test.groupby(["pair", "evaluator"], sort=False):
        label = rank[part["label"].unique()].idxmax()
        parts.append(_of_configuration(runs, part[part["label"] == label]))
    return pd.concat(parts, ignore_index=True)


def _of_configuration(runs: Runs, rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each arm of one configuration on one benchmark."""
    arms = over_seeds(runs, rows)
    arms = arms.sort_values("arm", key=lambda arm: arm.map(ordered(arm).index), ignore_index=True)
    scores = pd.DataFrame({str(arm): next(iter(per_problem(runs, part).values())) for arm, part in rows.groupby("arm")})
    own = runs.trials.set_index("fingerprint")["judged_by"][rows["fingerprint"].iloc[0]]
    bridges = [one for one in (own, *ordered(map(str, scores), bridge)) if one in scores]
    others = [arm for arm in arms["arm"] if arm != bridges[0]] if bridges else []
    # Each pair on its own problems: an arm that answered fewer must not shrink the others' tests.
    both = {arm: scores[[arm, bridges[0]]].dropna() for arm in others}
    pairs = {arm: compare(pair.iloc[:, 0], pair.iloc[:, 1]) for arm, pair in both.items() if len(pair)}
    found = dict(zip(pairs, corrected(list(pairs.values())), strict=True))
    arms["gap"] = pd.Series([mean_gap(runs, row)[0] for row in arms.to_dict("records")], dtype=float)
    arms["bridge_minus_arm"] = [found[arm].difference if arm in found else None for arm in arms["arm"]]
    arms["p_holm"] = [found[arm].p if arm in found else None for arm in arms["arm"]]
    arms["bridge_is"] = [found[arm].verdict if arm in found else None for arm in arms["arm"]]
    arms["nll"] = arms["nll"].where(arms["arm"].map(own_tokens))  # another model's tokens are other tokens
    for name in ("bits_per_byte", "shots"):
        arms[name] = arms.get(name, pd.Series(float("nan"), index=arms.index))
    columns = [
        "pair",
        "evaluator",
        "label",
        "K",
        "arm",
        "reading",
        "accuracy",
        "low",
        "high",
        "by_seed",
        "nll",
        "bits_per_byte",
        "gap",
    ]
    return arms[[*columns, "bridge_minus_arm", "p_holm", "bridge_is", "shots", "n", "seeds", "fingerprint"]]

"""Compression: accuracy, control, token budget and gap recovered at each number of soft tokens."""

from __future__ import annotations

import pandas as pd

from raybridge.plots import (
    Column,
    Runs,
    band_told,
    compressed,
    intervals_of,
    kinds,
    mean_gap,
    n_of,
    of_first_reading,
    over_seeds,
    own_on_test,
    seeds_of,
    shots_told,
    transfer,
)

NEEDS = "python -m raybridge.sweep sweeps/compression.py"


def table(runs: Runs) -> pd.DataFrame:
    bridged = own_on_test(runs, compressed(runs))
    if bridged.empty:
        return pd.DataFrame()
    rows = over_seeds(runs, bridged).sort_values(["pair", "K", "label"], ignore_index=True)
    test = of_first_reading(runs.test)
    test = test[test["evaluator"] == rows["evaluator"].iloc[0]]
    means = test.groupby(["label", "arm"])["accuracy"].mean()
    same = pd.Series("", index=rows.index)
    of = {"shuffled": rows["arm"].map(kinds.against)} | {name: same + name for name in ("token_budget", "target")}
    for column, arm in of.items():
        rows[column] = means.reindex(pd.MultiIndex.from_arrays([rows["label"], arm])).to_numpy()
    rows["compression"] = rows["question_tokens"] / rows["K"]
    rows["flag"] = rows["compression"].le(1).map({True: "none", False: ""})
    rows["gap"] = [mean_gap(runs, row)[0] for row in rows.to_dict("records")]
    rows["aa_band"] = runs.band(bridged)
    rank = rows["label"].map(runs.trials.groupby("label")["rank"].mean())
    rows["chosen"] = (rank == rank.groupby(rows["pair"]).transform("max")) & (
        rows.groupby("pair")["label"].transform("nunique") > 1
    )
    rows = rows.merge(transfer(runs, bridged), on="label")
    columns = ["label", "pair", "evaluator", "K", "compression", "flag", "accuracy", "low", "high", "chosen", "shuffled"]
    more = ["transfer", "transfer_p", "transfer_verdict", "token_budget", "target", "gap", "n", "seeds", "shots", "aa_band"]
    rows["shots"] = rows.get("shots", float("nan"))
    return rows[[*columns, *more, "fingerprint"]]


def columns(rows: pd.DataFrame) -> dict[str, Column]:
    return {
        **({"pair": Column(header="", heads=True)} if rows["pair"].nunique() > 1 else {}),
        "K": Column(header="K", format=".0f"),
        "compression": Column(header="Compression", format=".2f"),
        "accuracy": Column(header="Bridged", format=".3f", low="low", high="high", mark="chosen"),
        "shuffled": Column(header="Shuffled", format=".3f"),
        "transfer_verdict": Column(header="Transfer"),
        "transfer_p": Column(header="p (Holm)", format="p"),
        "token_budget": Column(header="First K tokens", format=".3f"),
        "target": Column(header="Text", format=".3f"),
        "gap": Column(header="Gap", format=".2f"),
    }


def caption(rows: pd.DataFrame) -> str:
    flagged = ", ".join(f"{k:.0f}" for k in sorted(rows.loc[rows["flag"] == "none", "K"].unique()))
    return " ".join(
        [
            f"{n_of(rows['n'])} test problems of {rows['evaluator'].iloc[0]}, {seeds_of(rows['seeds'])}.",
            "Compression: question tokens per soft token. Transfer: bridged against shuffled soft tokens on the same problems,",
            f"paired, Holm-corrected. Intervals: {intervals_of(rows['seeds'])}. Gap: of the NLL between no question and the",
            "question as text. Bold: the K that was best on dev.",
            f"{band_told(rows['aa_band'].iloc[0], rows['seeds'])}; without one, or inside it, a ranking is none.",
            *([f"{told}."] if (told := shots_told(rows["shots"])) else []),
            *([f"Nothing is compressed at K = {flagged}."] if flagged else []),
        ]
    )

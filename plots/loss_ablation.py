"""Loss ablation: what each set of loss terms changes against the baseline, on the same test problems.

The baseline is the first trial that the sweep asked for. Seeds are averaged problem by problem before the paired test.
"""

from __future__ import annotations

import pandas as pd

from raybridge.plots import BLACK, Figure, Runs, n_of, points, seeds_of
from raybridge.statistics import aa_band, compare, corrected

NEEDS = "python -m raybridge.sweep sweeps/loss_ablation.py"


def table(runs: Runs) -> pd.DataFrame:
    asked = runs.asked_by("loss_ablation")
    bridged = runs.test[runs.test["arm"] == "bridged"]
    bridged = bridged[bridged["fingerprint"].isin(asked)]
    if bridged.empty:
        return pd.DataFrame()
    bridged = bridged[bridged["reading"] == bridged["reading"].iloc[0]]
    bridged = bridged[bridged["evaluator"] == bridged["evaluator"].iloc[0]]
    scores, shuffled = per_problem(runs, bridged, "bridged"), per_problem(runs, bridged, "shuffled")
    baseline, *others = order(runs, bridged)
    band = aa_band(*(part["accuracy"].tolist() for _, part in bridged.groupby("label")))
    if not others:
        return pd.DataFrame()
    found = corrected([compare(scores[baseline], scores[label]) for label in others], band=band)
    trials = runs.trials.drop_duplicates("label").set_index("label")
    rows = []
    for label, one in zip(others, found, strict=True):
        of_label = bridged[bridged["label"].isin([label, baseline])]
        rows.append(
            {
                **{"label": label, "losses": trials["config.losses"].get(label), "baseline": baseline},
                **{"difference": one.difference, "low": one.interval[0], "high": one.interval[1], "p_holm": one.p},
                **{"wins": one.wins, "losses_to_baseline": one.losses, "verdict": one.verdict, "n": one.n, "aa_band": band},
                **{"accuracy": scores[label].mean(), "baseline_accuracy": scores[baseline].mean()},
                **{"shuffled": shuffled[label].mean(), "seeds": of_label[of_label["label"] == label]["fingerprint"].nunique()},
                "fingerprint": " ".join(sorted(set(of_label["fingerprint"]))),
            }
        )
    return pd.DataFrame(rows)


def order(runs: Runs, bridged: pd.DataFrame) -> list[str]:
    """Labels in the order in which the sweep asked for them."""
    planned = runs.plans[runs.sweep or "loss_ablation"]
    labels = bridged.set_index("fingerprint")["label"]
    return list(dict.fromkeys(labels[one] for one in planned if one in labels.index))


def per_problem(runs: Runs, bridged: pd.DataFrame, arm: str) -> dict[str, pd.Series]:
    """Mean score over the seeds of each problem, by label, on the problems that all trials share."""
    columns: dict[str, pd.Series] = {}
    for label, part in bridged.groupby("label", sort=False):
        seeds = []
        for row in part.to_dict("records"):
            answers = runs.scores(row["fingerprint"], row["evaluator"])
            seeds.append(answers[answers["arm"] == arm].set_index("problem")[f"score_{row['reading']}"])
        columns[str(label)] = pd.concat(seeds, axis=1).mean(axis=1)
    shared = pd.DataFrame(columns).dropna()
    return {label: shared[label] for label in columns}


def height(rows: pd.DataFrame) -> float:
    return 0.6 + 0.28 * len(rows)


def draw(figure: Figure, rows: pd.DataFrame) -> None:
    ax = figure.subplots()
    band = rows["aa_band"].iloc[0]
    if pd.notna(band):
        ax.axvspan(-band, band, color="0.9", label="A/A band", linewidth=0)
    ax.axvline(0, color="0.4", linewidth=0.7)
    for y, row in zip(range(0, -len(rows), -1), rows.to_dict("records"), strict=True):
        ends = [row["low"]], [row["high"]]
        look = {"linestyle": "none", "marker": "D", "color": BLACK}
        points(ax, [row["difference"]], [y], *ends, look=look, across=True, hollow=row["verdict"] == "tie")
        ax.annotate(row["verdict"], (1.0, y), xycoords=("axes fraction", "data"), ha="left", va="center", fontsize=6.5)
    ax.set_yticks(range(0, -len(rows), -1), rows["label"])
    ax.set_ylim(-len(rows) + 0.4, 0.6)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("test accuracy minus the baseline's")
    if pd.notna(band):
        ax.legend(loc="upper left", bbox_to_anchor=(0, 1.0))


def caption(rows: pd.DataFrame) -> str:
    band = rows["aa_band"].iloc[0]
    return " ".join(
        [
            f"Paired differences of the bridged arm to {rows['baseline'].iloc[0]} ({rows['baseline_accuracy'].iloc[0]:.3f}),",
            f"{n_of(rows['n'])} test problems, {seeds_of(rows['seeds'])}. Bars: 95% paired bootstrap intervals. Filled:",
            "significant after Holm's correction and outside the A/A band; else a tie.",
            f"A/A band: ±{band:.3f}." if pd.notna(band) else "No replicate seeds, so no A/A band.",
            f"Shuffled controls: {rows['shuffled'].min():.3f} to {rows['shuffled'].max():.3f}.",
        ]
    )

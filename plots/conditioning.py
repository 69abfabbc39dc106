"""Conditioning: where the queries look, how many directions the soft tokens use, and which tokens they resemble.

A row for each (configuration, benchmark, kind, index), seeds averaged, as evaluation left them (docs/schema.md).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, NullLocator

from raybridge.plots import ATTENTION_BINS, GREY, LOOKS, Axes, Figure, Runs, legend, log_ticks, n_of, points, rest, seeds_of

NEEDS = "python -m raybridge.sweep sweeps/compression.py"
SHOWN = 4  # configurations in the lower panels
OF = ["label", "pair", "K", "evaluator", "kind", "index"]


def table(runs: Runs) -> pd.DataFrame:
    rows = runs.conditioning
    if rows.empty:
        return pd.DataFrame()
    grouped = rows.groupby(OF, sort=False, dropna=False)
    found = grouped.agg(
        value=("value", "mean"),
        n=("n", "max"),
        seeds=("fingerprint", "nunique"),
        fingerprint=("fingerprint", lambda prints: " ".join(sorted(set(prints)))),
    ).reset_index()
    found["rank"] = found["label"].map(runs.trials.groupby("label")["rank"].mean())
    return found.sort_values(["evaluator", "K", *OF], ignore_index=True)


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The benchmark that most configurations have, and those of its configurations that were best on dev."""
    evaluator = rows.groupby("evaluator")["label"].nunique().idxmax()
    part = rows[rows["evaluator"] == evaluator]
    best = part.groupby("label")["rank"].first().nlargest(SHOWN).index
    return part[part["label"].isin(best)]


def attended(rows: pd.DataFrame) -> pd.DataFrame:
    """Attention of the configuration that was best on dev among those that have any."""
    attention = rows[rows["kind"] == "attention"]
    best = attention.sort_values("rank", ascending=False, kind="stable")["label"].head(1)
    return attention[attention["label"].isin(best)].sort_values("index")


def height(rows: pd.DataFrame) -> float:
    attention = attended(shown(rows))
    return 2.4 if attention.empty else 4.2 if len(attention) > ATTENTION_BINS else 3.6


def draw(figure: Figure, rows: pd.DataFrame) -> None:
    rows = shown(rows)
    attention = attended(rows)
    if attention.empty:
        left, right = figure.subplots(1, 2)
    else:
        ratios = [2, 5] if len(attention) == ATTENTION_BINS else [1, 1]  # one query needs no room
        axes: dict[str, Axes] = figure.subplot_mosaic([["map", "map"], ["left", "right"]], height_ratios=ratios)
        left, right = axes["left"], axes["right"]
        heat(figure, axes["map"], attention)
    looks = zip(LOOKS, rows.groupby("label", sort=False), strict=False)
    for place, (look, (label, part)) in enumerate(looks):
        spectrum = part[part["kind"] == "singular_value"].sort_values("index")
        every = max(1, len(spectrum) // 5)
        share = spectrum["value"] / spectrum["value"].max()
        left.plot(spectrum["index"] + 1, share, label=label, markevery=(0, every), **look)
        similar(right, place, part, look)
    log_ticks(left)
    left.set_ylim(bottom=max(left.get_ylim()[0], 1e-4))
    left.set_xlabel("direction")
    left.set_ylabel("singular value,\nrelative to the first")
    of_k = rows.drop_duplicates("label")["K"]
    right.set_xticks(range(len(of_k)), [f"{k:.0f}" for k in of_k])
    right.set_xlim(-0.6, len(of_k) - 0.4)
    right.set_ylim(0, 1.02)
    right.set_xlabel("soft tokens K")
    right.set_ylabel("cosine to the nearest\ntarget embedding")
    legend(figure, [left, right], ncols=3)


def heat(figure: Figure, ax: Axes, attention: pd.DataFrame) -> None:
    """A row of the map for each query; 1 is attention spread evenly over the question."""
    values = attention["value"].to_numpy().reshape(-1, ATTENTION_BINS) * ATTENTION_BINS
    image = ax.imshow(values, aspect="auto", cmap="Greys", vmin=0, extent=(0, 1, len(values) + 0.5, 0.5), interpolation="none")
    bar = figure.colorbar(image, ax=ax, pad=0.02)
    bar.set_label("attention (1 = even)" if len(values) > 1 else "1 = even")
    ax.set_xlabel("place in the question (0 first, 1 last token)")
    ax.set_ylabel("query" if len(values) > 1 else "attention of\nthe one query")
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True) if len(values) > 1 else NullLocator())
    ax.set_title(attention["label"].iloc[0], loc="left", fontweight="bold")
    ax.grid(visible=False)


def similar(ax: Axes, place: int, part: pd.DataFrame, look: dict) -> None:
    """Cosine to the nearest embedding, mean over the soft tokens, with its spread over the questions; random directions."""
    means = part.groupby("kind")["value"].mean()
    if "nearest" in means:
        ends = [means.get("nearest_p10", means["nearest"])], [means.get("nearest_p90", means["nearest"])]
        points(ax, [place], [means["nearest"]], *ends, look=look | {"linestyle": "none"})
    if "nearest_random" in means:
        name = "_" if place else "random direction"
        ax.plot([place], [means["nearest_random"]], "_", color=GREY, markersize=9, markeredgewidth=1.5, label=name)


def effective_rank(values: pd.Series) -> float:
    """Exponent of the entropy of the squared singular values: how many directions are in use."""
    share = (values**2 / (values**2).sum()).to_numpy()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def caption(rows: pd.DataFrame) -> str:
    part = shown(rows)
    spectra = part[part["kind"] == "singular_value"].groupby("label", sort=False)["value"]
    ranks = ", ".join(f"{effective_rank(values):.1f}" for _, values in spectra)
    sentences = [f"{n_of(part['n'])} questions of {part['evaluator'].iloc[0]}, {seeds_of(part['seeds'])}."]
    if not attended(part).empty:
        sentences.append("Map: where the queries of the cross-attention look, mean over heads, layers and questions.")
    sentences += [
        "Singular values of all soft tokens about their mean (IncrementalPCA). Cosine to the nearest target embedding: mean",
        "over the soft tokens, bars from the 10th to the 90th percentile of the questions.",
        f"Directions in use (entropy of the squared values), in the legend's order: {ranks}." if ranks else "",
    ]
    sentences += rest(part["label"].nunique(), rows["label"].nunique(), by="best on dev")
    return " ".join(filter(None, sentences))

"""Compression: what is left of accuracy, and of the gap to the text, when a question becomes K soft tokens.

A row for each (model pair, benchmark, K, arm) of the sweep, seeds averaged. Achieved compression is question tokens over K
and, where soft tokens went over the wire, the question's UTF-8 bytes over the bytes of the message at each bit width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd

from raybridge.plots import (
    TEXT_LINE,
    Axes,
    Figure,
    Runs,
    arm_look,
    arms,
    band_told,
    compressed,
    each_seed,
    gaps_by_seed,
    intervals_of,
    kinds,
    legend,
    mean_gap,
    n_by_arm,
    of_first_reading,
    over_seeds,
    points,
    seeds_of,
    words,
)

NEEDS = "python -m raybridge.sweep sweeps/compression.py"
CURVES = ("crammed", "text_relay", "selective_text", "token_budget", "shuffled", "bridged")
ACROSS = {  # read the whole question: a level, whatever K is
    "self_repair": "self repair, the target checking its own answer",
    "format_only": "format only, the question behind a learned prompt",
    "receiver_lora": "receiver lora, the question before an adapted target",
}
SAID = {
    "selective_text": "Selective text: the K that the target could guess least.",
    "text_relay": "Text relay: the source's own short version in at most K tokens.",
    "crammed": "Crammed: K vectors optimised for each problem, a ceiling and no method.",
}
PANEL = ["pair", "evaluator"]
SHOWN = 2  # pairs side by side
SOFT_TOKENS = r"_\d+tok(?![a-z])"  # in a trial's name


def table(runs: Runs) -> pd.DataFrame:
    asked = [*CURVES, *ACROSS, *(arm.name for arm in arms.every() if arm.packed), "target"]
    test = runs.test[runs.test["fingerprint"].isin(compressed(runs)) & runs.test["arm"].isin(asked)]
    if test.empty:
        return pd.DataFrame()
    test = of_first_reading(test)
    rows = over_seeds(runs, test).sort_values([*PANEL, "K", "arm"], ignore_index=True)
    bridged = test[test["arm"] == "bridged"]
    bands = {key: runs.band(part) for key, part in bridged.groupby(PANEL)}
    places = zip(rows["pair"], rows["evaluator"], strict=True)
    rows["aa_band"] = [bands.get((pair, evaluator)) for pair, evaluator in places]
    rows["compression"] = rows["question_tokens"] / rows["K"]
    sent = kinds.are(rows["arm"], lambda arm: arm.packed)
    absent = pd.Series(math.nan, index=rows.index)
    bytes_of = {name: rows.get(name, absent).astype(float) for name in ("question_bytes", "wire_bytes")}
    rows["compression_bytes"] = (bytes_of["question_bytes"] / bytes_of["wire_bytes"]).where(sent)
    gaps = [mean_gap(runs, row) for row in rows.to_dict("records")]
    rows[["gap", "gap_low", "gap_high"]] = pd.DataFrame(gaps, index=rows.index, dtype=float)
    rows["gap_by_seed"] = [gaps_by_seed(runs, row) for row in rows.to_dict("records")]
    rows["flagged"] = ((rows["arm"] == "bridged") & (rows["compression"] <= 1)) | rows["compression_bytes"].le(1)
    columns = [*PANEL, "label", "K", "compression", "compression_bytes", "arm", "accuracy", "low", "high", "by_seed"]
    more = [
        "gap",
        "gap_low",
        "gap_high",
        "gap_by_seed",
        "nll",
        "question_tokens",
        "n",
        "seeds",
        "aa_band",
        "flagged",
        "fingerprint",
    ]
    return rows[[*columns, *more]]


def panels(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """The pairs that the figure shows: those with most K; one alone where it is shown in tokens and in bytes."""
    parts = sorted((part for _, part in rows.groupby(PANEL)), key=lambda part: -part["K"].nunique())
    return parts[: 1 if in_bytes(parts[0]) else SHOWN]


def in_bytes(part: pd.DataFrame) -> bool:
    """Whether accuracy was measured through the wire."""
    return bool(part["compression_bytes"].notna().any())


def height(rows: pd.DataFrame) -> float:
    further = {arm for arm in (*CURVES, *ACROSS) if arm in set(rows["arm"])} - {"bridged", "shuffled", "token_budget"}
    return 3.7 + 0.07 * len(further)  # two of them to a line of the legend


def draw(figure: Figure, rows: pd.DataFrame) -> None:
    shown = panels(rows)
    both = in_bytes(shown[0])
    grid = figure.subplots(2, 2 if both else len(shown), sharex="col", sharey="row", squeeze=False)
    for column, part in enumerate(shown):
        top, below = grid[:, column]
        for arm in CURVES:
            for alike in families(part[part["arm"] == arm].sort_values("compression")):
                curve(top, below, alike, "compression", arm_look(arm), words(arm))
        for arm in ACROSS:
            level(top, below, part[part["arm"] == arm], arm_look(arm), words(arm))
        shade(top, part)
        ticks(below, part)
        if both:
            top.set_title("in tokens", loc="left", fontweight="bold")
        elif len(shown) > 1:
            pair = part["pair"].iloc[0].replace(" to ", "\nto ")
            top.set_title(f"{pair}\n{part['evaluator'].iloc[0]}", loc="left", fontsize=6)
        wide = len(grid[0]) == 1
        below.set_xlabel("question tokens per soft token" if wide else "question tokens per\nsoft token")
    if both:
        wire(grid[0, 1], grid[1, 1], shown[0])
    for top, below in grid.T:
        below.axhline(1, **TEXT_LINE)
        if below.get_xlim()[0] < 1:
            for ax in (top, below):
                ax.axvline(1, color="0.6", linewidth=0.6)
        below.axhline(0, color="0.6", linewidth=0.6)
    for (top, _), part in zip(grid.T, [*shown, *shown] if both else shown, strict=True):
        top.axhline(part.loc[part["arm"] == "target", "accuracy"].mean(), **TEXT_LINE, label="target reads the text")
    grid[0, 0].set_ylabel("test accuracy")
    grid[1, 0].set_ylabel("gap recovered (NLL)")
    grid[0, 0].set_ylim(bottom=-0.03)
    grid[1, 0].set_ylim(bottom=max(-0.6, grid[1, 0].get_ylim()[0]), top=1.1)
    legend(figure, grid[0], ncols=3 if both else 2, first=("bridged", "shuffled", "token budget", "target reads the text"))


def families(part: pd.DataFrame) -> list[pd.DataFrame]:
    """Trials that are called the same but for their K: a line joins them, and no others."""
    return [alike for _, alike in part.groupby(part["label"].str.replace(SOFT_TOKENS, "", regex=True), sort=False)]


def curve(top: Axes, below: Axes, part: pd.DataFrame, x: str, look: dict, name: str) -> None:
    """Accuracy above, gap recovered below; nothing, and no line of the legend, of an arm that was not evaluated."""
    if part.empty:
        return
    look = look | {"label": name}
    points(top, part[x], part["accuracy"], part["low"], part["high"], look=look)
    each_seed(top, part[x], part["by_seed"], look=look)
    known = part.dropna(subset=["gap"])
    points(below, known[x], known["gap"], known["gap_low"], known["gap_high"], look=look)
    each_seed(below, known[x], known["gap_by_seed"], look=look)


def level(top: Axes, below: Axes, part: pd.DataFrame, look: dict, name: str) -> None:
    """An arm that is the same at every K: its mean as a thin line across, its marks left out."""
    look = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 0.8}
    for ax, measure in ((top, "accuracy"), (below, "gap")):
        if part[measure].notna().any():
            ax.axhline(part[measure].mean(), **look, label=name)


def wire(top: Axes, below: Axes, part: pd.DataFrame) -> None:
    """The same through the wire, a line for each bit width."""
    for arm in arms.every():
        mine = part[(part["arm"] == arm.name) & part["compression_bytes"].notna()].sort_values("compression_bytes")
        for alike in families(mine) if arm.packed else ():
            curve(top, below, alike, "compression_bytes", arm_look(arm.name), arm.wire)
    control = part[part["arm"] == "shuffled"].set_index("K")
    at = part[part["arm"] == "bridged_fp16"].set_index("K")["compression_bytes"]
    mine = control.assign(x=at).dropna(subset=["x"]).sort_values("x")
    for alike in families(mine):
        curve(top, below, alike, "x", arm_look("shuffled"), "shuffled")
    top.set_title("over the wire", loc="left", fontweight="bold")
    below.set_xscale("log")
    below.set_xlabel("question bytes per\nbyte sent")


def shade(ax: Axes, part: pd.DataFrame) -> None:
    """The A/A band about the bridge: trials whose shades overlap may differ by their seeds alone."""
    mine = part[part["arm"] == "bridged"].sort_values("compression")
    band = mine["aa_band"].iloc[0] if len(mine) else None
    if band is None or pd.isna(band):
        return
    for alike in families(mine):
        middle = alike["accuracy"]
        ax.fill_between(alike["compression"], middle - band / 2, middle + band / 2, color="0.85", linewidth=0, label="A/A band")


def ticks(ax: Axes, part: pd.DataFrame) -> None:
    """A tick at each K: how much it compresses, and K."""
    mine = part[part["arm"] == "bridged"].drop_duplicates("K")
    ax.set_xscale("log", base=2)
    labels = [f"{ratio:.2g}\nK={k:.0f}" for ratio, k in zip(mine["compression"], mine["K"], strict=True)]
    ax.set_xticks(mine["compression"].tolist(), labels)
    ax.minorticks_off()


def caption(rows: pd.DataFrame) -> str:
    shown = pd.concat(panels(rows))
    own = shown[shown["arm"] == "bridged"]
    band, seeds = shown["aa_band"].dropna(), own["seeds"] if len(own) else shown["seeds"]
    sent = shown[shown["compression_bytes"].notna()]
    across = [said for arm, said in ACROSS.items() if arm in set(shown["arm"])]
    where = [f"{pair} on {evaluator}:" for pair, evaluator in shown[PANEL].drop_duplicates().to_numpy()]
    sentences = [
        where[0] if len(where) == 1 else "",
        f"{n_by_arm(shown)} test problems, {seeds_of(seeds)}. Bars: {intervals_of(seeds)}, bootstrap for the gap; small",
        "points: seeds. Gap recovered: 0 is no question, 1 is the question as text.",
        "Lines join trials of one kind." if len(families(own)) > len(own[PANEL].drop_duplicates()) else "",
        "Token budget: the first K tokens of the question as text.",
        *(SAID[arm] for arm in SAID if arm in set(shown["arm"])),
        *([f"Across: {'; '.join(across)}."] if across else []),
        f"{band_told(band.iloc[0] if len(band) else None, seeds)}{' (grey)' if len(band) else ''}.",
    ]
    if len(sent):
        sentences.append("Over the wire: accuracy through the quantised soft tokens, scales and header counted.")
    flagged = listed(own.loc[own["flagged"], "K"])
    if flagged:
        sentences.append(f"No compression in tokens at {flagged}.")
    if flagged or sent["flagged"].any():
        sentences.append("Left of the upright line nothing is compressed.")
    return " ".join(filter(None, sentences))


def listed(numbers: Iterable[float]) -> str:
    """K=16, K=32."""
    return ", ".join(f"K={k:.0f}" for k in sorted(set(numbers)))

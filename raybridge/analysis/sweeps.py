"""What came of the trials of a sweep, what they cost and ran on, and where they differ: the report's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from raybridge.analysis.configurations import own_on_test, transfer
from raybridge.analysis.kinds import against, is_plain, ordered
from raybridge.analysis.labels import flattened
from raybridge.analysis.measures import of_first_reading
from raybridge.analysis.runs import Runs
from raybridge.analysis.seeds import mean_gap, over_seeds
from raybridge.arms import every, parse


def outcomes(runs: Runs, trials: pd.DataFrame) -> pd.DataFrame:
    """A row for each configuration: dev as chosen and at the end, test beside the control, the word for the transfer."""
    if trials.empty:
        return trials
    test = of_first_reading(runs.test[runs.test["fingerprint"].isin(set(trials["fingerprint"]))])
    test = test.assign(label=test["fingerprint"].map(trials.set_index("fingerprint")["label"]))
    trials = trials.sort_values(["K", "label", "seed"], kind="stable")
    rows = trials.groupby("label", sort=False).agg(
        **{"K": ("K", "first"), "seeds": ("fingerprint", "nunique")},
        **{"dev": ("dev", "mean"), "dev final": ("result.final", "mean")},
    )
    for measure in ("dev", "dev final"):
        rows[measure] = rows[measure].astype(float).map("{:.3f}".format, na_action="ignore")
    names = told_of(test["arm"], ordered(trials["judged_by"]))
    means = over_seeds(runs, test[test["arm"].isin(names)]).drop_duplicates(["label", "arm"])
    for arm in names:
        part = means[means["arm"] == arm].set_index("label")
        said = part.apply(lambda row: f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]", axis=1)
        rows[f"test {arm}"] = said if len(part) else None
    part = own_on_test(runs, set(trials["fingerprint"]))
    if len(part):
        part = part.assign(label=part["fingerprint"].map(trials.set_index("fingerprint")["label"]))
        if set(part["arm"]) != {"bridged"}:
            rows.insert(2, "judged by", part.groupby("label")["arm"].first().map(lambda arm: arm.replace("_", " ")))
        found = transfer(runs, part).set_index("label")
        firsts = {"evaluator": ("evaluator", "first"), "arm": ("arm", "first")}
        named = part.groupby("label").agg(fingerprint=("fingerprint", " ".join), **firsts)
        asked = named.to_dict("index").items()
        both = [(label, [mean_gap(runs, one)[0] for one in (own, own | {"arm": against(own["arm"])})]) for label, own in asked]
        told = {label: f"{ours:z.2f} ({shuffled:z.2f})" for label, (ours, shuffled) in both if pd.notna(ours)}
        rows["gap recovered (shuffled)"] = pd.Series(told, dtype=object)
        rows["transfer"] = found["transfer_verdict"]
        rows["p (Holm)"] = found["transfer_p"].map(lambda p: "<0.001" if p < 0.001 else f"{p:.3f}")
    if "shots" in test:
        rows["shots"] = test.groupby("label")["shots"].max()
    rows["n"] = test.groupby("label")["n"].max()
    rows["ended"] = trials.groupby("label")["result.stopped"].agg(lambda ends: ", ".join(sorted(set(ends.dropna()))))
    return rows.reset_index().rename(columns={"label": "configuration"})


def told_of(labels: pd.Series, judged: Sequence[str] = ("bridged",)) -> list[str]:
    """The arms of which outcomes tell: the bridges, their controls and the text, what is of their kind behind each.

    judged: the arms that trials are ranked by. What other trials lend stands beside the bridges: a constant prompt, which must
    not be as good, format alone and an adapted target, which read the text.
    """
    lent = [arm.name for arm in every() if arm.borrows and arm.name in set(labels)]
    controls = dict.fromkeys(filter(None, map(against, judged)))
    names = [*judged, *lent, *controls, "target"]
    variants = [label for label in ordered(labels) if not is_plain(label)]
    return [label for name in names for label in (name, *(one for one in variants if parse(one).arm == name))]


def differences(runs: Runs, trials: pd.DataFrame) -> pd.DataFrame:
    """The config fields in which the trials of a sweep differ, a row for each configuration.

    A field that a trial's classes do not have is missing there, and makes no difference by itself.
    """
    once = trials.sort_values(["K", "label"], kind="stable").drop_duplicates("label")
    flat = {row["label"]: flattened(runs.runs[row["fingerprint"]].config, "") for row in once.to_dict("records")}
    fields = dict.fromkeys(field for one in flat.values() for field in one if field not in (".name", ".seed"))
    varied = [field for field in fields if len({str(one[field]) for one in flat.values() if field in one}) > 1]
    rows = [
        {"configuration": label} | {field[1:]: "none" if one.get(field, 0) is None else one.get(field) for field in varied}
        for label, one in flat.items()
    ]
    return pd.DataFrame(rows) if varied else pd.DataFrame()


def costs(runs: Runs) -> pd.DataFrame:
    """Training time of each configuration, and hours of the GPUs that it used.

    Where that is not recorded it is known only of a machine with one GPU or none; on others it is missing.
    """
    rows = []
    trials = runs.trials
    seconds = trials.get("result.train_seconds", pd.Series(float("nan"), index=trials.index)).astype(float)
    hardware = [runs.provenance(one).get("hardware") for one in trials["fingerprint"]]
    there = pd.Series([len(one.get("gpus") or []) if one else None for one in hardware], index=trials.index, dtype=float)
    used = trials.get("result.gpus", pd.Series(float("nan"), index=trials.index)).astype(float)
    gpus = used.fillna(there.where(there <= 1))
    spent = trials.assign(hours=seconds / 3600, gpu_hours=seconds / 3600 * gpus).sort_values(["K", "label"], kind="stable")
    for label, part in [*spent.groupby("label", sort=False), ("all", spent)]:
        hours, gpu_hours = (part[name].sum(min_count=1) for name in ("hours", "gpu_hours"))
        unknown = int(part["hours"].isna().sum())
        rows.append({"configuration": label, "trials": len(part), "training": duration(hours), "GPU hours": gpu_hours})
        rows[-1]["not recorded"] = f"{unknown} trial{'s' if unknown > 1 else ''}" if unknown else ""
    return pd.DataFrame(rows) if len(trials) else pd.DataFrame()


def duration(hours: float) -> str | None:
    """A time as a reader sees it."""
    if pd.isna(hours):
        return None
    return f"{hours * 3600:.0f} s" if hours < 0.05 else f"{hours * 60:.0f} min" if hours < 2 else f"{hours:,.1f} h"


def origins(runs: Runs) -> pd.DataFrame:
    """What the trials ran on: a row for each commit, machine and set of versions."""
    rows = []
    for fingerprint in runs.trials["fingerprint"]:
        told = runs.provenance(fingerprint)
        commit, hardware, versions = (told.get(name) or {} for name in ("commit", "hardware", "versions"))
        gpus = hardware.get("gpus") or []
        rows.append(
            {
                "commit": (str(commit.get("id") or "unknown")[:12]) + (" with changes" if commit.get("dirty") else ""),
                "machine": f"{hardware.get('cores')} cores, {hardware.get('machine')}" if hardware else None,
                "GPUs": f"{len(gpus)} x {gpus[0]}" if gpus else "none" if hardware else None,
                **{name: versions.get(name) for name in ("python", "torch", "transformers", "ray")},
            }
        )
    table = pd.DataFrame(rows)
    return table.value_counts(list(table), dropna=False).rename("trials").reset_index() if rows else table


def changes(base: Mapping[str, Any], own: Mapping[str, Any]) -> pd.DataFrame:
    """The fields in which a resolved config differs from the base, a row each."""
    before, after = (flattened(config, "") for config in (base, own))
    rows = [
        {"field": field.removeprefix("."), "base": before.get(field), "this trial": after.get(field)}
        for field in dict.fromkeys([*before, *after])
        if field != ".name" and before.get(field) != after.get(field)
    ]
    return pd.DataFrame(rows).astype(object)

"""Kill a sweep again and again, at random moments, and hold what comes out against a run that nobody disturbed.

    python -m bench.soak --workers 2 --kills 30 --seed 0

A sweep of one or two tiny pocket trials is launched, with a worker or two a trial. One after another its processes are killed
(the command, the first training worker, the last, a replica, Ray's raylet, in an order that is drawn), each at a random moment
after it is there and after the kill before; once the command has ended it is launched again, until the sweep is complete. Then
its numbers must be those of the undisturbed run with as many workers, and the next round begins. At last two sweeps that share
their trials run at once, and what is deleted of a complete trial must come back. Prints a line a kill and the counts.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil

from raybridge import HOUSE
from raybridge.results import Results

SWEEP = '''"""Does it end with the same numbers?"""

from dataclasses import replace

from raybridge.trial import Trial

axes = {{"pocket": dict(soft_tokens={sizes})}}


def trial(base: Trial, *, soft_tokens: int) -> Trial:
    translator = replace(base.translator, soft_tokens=soft_tokens, width=32, depth=1, heads=2)
    cut = dict(steps=200, warmup=4, batch=4, eval_every=40, dev_problems=8, test_problems=8)
    return replace(base, name=f"tiny_{{soft_tokens}}tok", translator=translator, **cut)
'''
COMMAND = '''"""The command, at pocket scale with so many workers a trial: on CPUs no option asks for several."""

from dataclasses import replace

from raybridge import scales, sweep

resources = replace(scales.POCKET.resources, workers={workers}, concurrent_trials={at_once})
scales.SCALES = (replace(scales.POCKET, resources=resources),)
sweep.app()
'''
VICTIMS = {"driver": "", "worker": "ray::RayTrainWorker", "replica": "ray::Replica", "raylet": "raylet"}
FIRST, LAST = "worker 0", "worker 1"  # of two, which are told apart by who has the trial's log open
HANGS = 600.0  # seconds after which a command that does not end is counted as hanging
GRACE = 8.0  # seconds that what a killed command leaves behind has to end by itself
TIMED = ["tokens_per_second", "mfu", "seconds"]


@dataclass
class Sweep:
    """A sweep file and its command, which is beside it."""

    file: Path
    root: Path
    launches: int = 0

    def launch(self) -> subprocess.Popen[bytes]:
        """The command, in a session of its own."""
        self.launches += 1
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        with self.file.with_suffix(f".{self.launches}.log").open("wb") as out:
            return subprocess.Popen(
                [sys.executable, self.file.with_name("command.py"), self.file, "--scale", "pocket", "--results", self.root],
                env=environment | {"NUM_GPUS": "0", "PYTHONPATH": str(HOUSE)},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ends(self, process: subprocess.Popen[bytes], children: Sequence[psutil.Process] = ()) -> int | None:
        """The exit code; None where it hangs, and is ended. children: that it had."""
        until = time.monotonic() + HANGS
        while process.poll() is None and time.monotonic() < until:
            children = [*{*children, *below(process)}]
            time.sleep(0.2)
        code = process.poll()
        if code is None:
            process.kill()
            process.wait()
        tidy(children)
        return code

    def to_the_end(self) -> None:
        """Undisturbed."""
        if (code := self.ends(self.launch())) != 0:
            raise RuntimeError(f"the sweep ended with {code} though nobody disturbed it; see {self.file.parent}")


def tidy(children: Sequence[psutil.Process]) -> None:
    """End what a command that is gone leaves behind."""
    _, left = psutil.wait_procs(children, timeout=GRACE)
    for process in left:
        with suppress(psutil.NoSuchProcess):  # it may end by itself in this very moment
            process.kill()


def numbers(root: Path) -> dict[str, pd.DataFrame | dict]:
    """All that must not depend on what happened on the way, by what it is."""
    results = Results(root)
    found: dict[str, pd.DataFrame | dict] = {}
    for run in results.trials():
        result = run.result()
        found[f"result of {run.name}"] = {k: v for k, v in (result or {}).items() if not k.endswith("seconds")}
        found[f"metrics of {run.name}"] = run.metrics().drop(columns=TIMED)
        evals = run.evals().drop(columns="seconds")
        found[f"evals of {run.name}"] = evals.sort_values(["step", "split", "arm", "reading"], ignore_index=True)
    for key in results.baselines():
        rows = results.baseline(key)
        assert rows is not None
        found[f"baseline {key}"] = rows.drop(columns="seconds")
    return found


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two folders of results."""
    first, second = numbers(one), numbers(other)
    told = sorted(first.keys() ^ second.keys())
    for name in sorted(first.keys() & second.keys()):
        a, b = first[name], second[name]
        same = a.equals(b) if isinstance(a, pd.DataFrame) and isinstance(b, pd.DataFrame) else a == b
        if not same:
            told.append(name)
    return told


def below(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes of a command, but for itself; none once it is gone."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def there(children: list[psutil.Process]) -> dict[str, psutil.Process]:
    """One process of each kind that may be killed, by kind."""
    found: dict[str, psutil.Process] = {}
    for child in children:
        with suppress(psutil.Error):
            name = child.name()
            if kind := next((kind for kind, start in VICTIMS.items() if start and name.startswith(start)), None):
                found.setdefault(kind, child)
    workers = []
    for child in children:
        with suppress(psutil.Error):
            if child.name().startswith(VICTIMS["worker"]):
                workers.append((not any(one.path.endswith("train.log") for one in child.open_files()), child))
    if len(workers) == 2 and {late for late, _ in workers} == {False, True}:
        found |= {LAST if late else FIRST: child for late, child in workers}
    return found


def found(process: subprocess.Popen[bytes], kind: str) -> psutil.Process | None:
    """The process to kill, once it is there; None where the command ended before it was."""
    until = time.monotonic() + HANGS
    while process.poll() is None and time.monotonic() < until:
        if victim := psutil.Process(process.pid) if kind == "driver" else there(below(process)).get(kind):
            return victim
        time.sleep(0.1)
    return None


def turns(kinds: Sequence[str], chance: random.Random) -> Iterator[str]:
    """Each kind as often as the others, in an order that is drawn anew each time."""
    while True:
        yield from chance.sample(kinds, len(kinds))


def step_of(root: Path) -> str:
    """How far the trials are, for a line."""
    return ", ".join(f"{run.name} step {step}" for run in Results(root).trials() for step in run.metrics()["step"].tail(1))


class Soak:
    """Launches of one sweep, kill after kill."""

    def __init__(self, told: argparse.Namespace, sweep: Sweep, straight: Path, kinds: Sequence[str]) -> None:
        self.told, self.sweep, self.straight = told, sweep, straight
        self.chance, self.started = random.Random(told.seed), time.monotonic()
        self.turns, self.kills = turns(kinds, self.chance), 0
        self.next = next(self.turns)
        self.counts: Counter[str] = Counter()

    def more(self) -> bool:
        """Whether there is to be another kill."""
        return self.kills < self.told.kills and time.monotonic() - self.started < self.told.minutes * 60

    def launch(self) -> None:
        """Launch the command, kill one after another of its processes, and wait until it has ended."""
        process, children, last = self.sweep.launch(), [], ""
        while last not in ("driver", "raylet") and self.more() and found(process, self.next):
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=self.chance.uniform(0, self.told.within))
            children = below(process)
            if not (victim := found(process, self.next)):  # another may stand in its place by now
                break
            with suppress(psutil.NoSuchProcess):  # it ends by itself in this very moment
                victim.send_signal(signal.SIGKILL)
            last, self.kills, self.next = self.next, self.kills + 1, next(self.turns)
            self.counts[f"kills of {last}"] += 1
            print(f"{self.kills:3d}  {time.strftime('%H:%M:%S')}  {last:8s} {step_of(self.sweep.root)}", flush=True)
        code = self.sweep.ends(process, children)
        how = f"ends with {code}" if code is not None else "hangs"
        self.counts[f"last killed: {last or 'none'}; the command {how}"] += 1
        print(f"     {time.strftime('%H:%M:%S')}  the command {how}", flush=True)

    def round(self, trials: int) -> None:
        """Launch until the sweep is complete, and compare."""
        root = self.sweep.root
        self.launch()
        while not complete(root, trials):
            self.launch()
        self.sweep.to_the_end()  # baselines may be missing
        told_apart = differences(self.straight, root)
        self.counts["rounds that " + ("differ" if told_apart else "end with the numbers of the undisturbed run")] += 1
        print(f"     complete; differs in: {', '.join(told_apart) or 'nothing'}", flush=True)
        if told_apart:
            root.rename(root.with_name(f"differs-{self.kills}"))
        else:
            shutil.rmtree(root)


def complete(root: Path, trials: int) -> bool:
    """Whether every trial has its result."""
    return sum(run.complete for run in Results(root).trials()) == trials


def main() -> None:
    """Round after round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, choices=(1, 2), default=1, help="of a trial")
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--within", type=float, default=10.0, help="seconds, of which a moment for a kill is drawn")
    parser.add_argument("--trials", type=int, choices=(1, 2), default=1, help="of the sweep")
    parser.add_argument("--both", action=argparse.BooleanOptionalAction, default=True, help="two sweeps at once, at last")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="no further kill after so many")
    told = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    (folder / "command.py").write_text(COMMAND.format(workers=told.workers, at_once=3 - told.workers), encoding="utf8")
    file, straight, sizes = folder / "soak.py", folder / "straight", [4, 8][: told.trials]
    file.write_text(SWEEP.format(sizes=sizes), encoding="utf8")
    started = time.monotonic()
    Sweep(file, straight).to_the_end()
    print(f"{told}, undisturbed: {time.monotonic() - started:.0f} s; logs in {folder}", flush=True)
    workers = [FIRST, LAST] if told.workers > 1 else ["worker"]
    soak = Soak(told, Sweep(file, folder / "killed", launches=1), straight, ["driver", *workers, "replica", "raylet"])
    while soak.more():
        soak.round(len(sizes))
    if told.both:
        both(folder, straight, sizes, soak.counts)
        deleted(file, folder / "both", straight, soak.counts)
    for name, count in sorted(soak.counts.items()):
        print(f"{count:4d}  {name}", flush=True)


def deleted(file: Path, root: Path, straight: Path, counts: Counter[str]) -> None:
    """What is deleted of a complete trial comes back by the same command."""
    run = Results(root).trials()[0]
    (run.path / "evals.parquet").unlink()
    shutil.rmtree(run.path / "samples" / "pocket" / "test")
    Sweep(file, root, launches=900).to_the_end()
    told_apart = differences(straight, root)
    print(f"evals and test samples deleted: differ in: {', '.join(told_apart) or 'nothing'}", flush=True)
    counts["deleted rows came back: " + ("equal" if not told_apart else "not equal")] += 1


def both(folder: Path, straight: Path, sizes: list[int], counts: Counter[str]) -> None:
    """Two sweeps of the same trials, in one folder of results, at once."""
    root = folder / "both"
    sweeps = []
    for name, turned in (("one", sizes), ("other", sizes[::-1])):
        file = folder / f"{name}.py"
        file.write_text(SWEEP.format(sizes=turned), encoding="utf8")
        sweeps.append(Sweep(file, root))
    processes = [sweep.launch() for sweep in sweeps]
    codes = [sweep.ends(process) for sweep, process in zip(sweeps, processes, strict=True)]
    told_apart = differences(straight, root)
    print(f"two sweeps at once: ended with {codes}; differ in: {', '.join(told_apart) or 'nothing'}", flush=True)
    counts["two sweeps at once: " + ("equal" if codes == [0, 0] and not told_apart else "not equal")] += 1


if __name__ == "__main__":
    main()

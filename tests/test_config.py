from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import pytest

from raybridge.config import (
    CONFIG_PACKAGES,
    Json,
    check_seed,
    fingerprint,
    identity,
    later,
    packages_of,
    rebuild,
    resolve,
    typed,
)
from raybridge.losses import Loss
from raybridge.losses.next_token import AnswerNLL
from raybridge.stopping import Stopping
from raybridge.translators.bottlenecked import Bottlenecked


def test_round_trip_of_every_kind_of_config(trial):
    assert rebuild(resolve(trial)) == trial


def test_a_fingerprint_depends_on_every_field_but_the_name(trial):
    assert replace(trial, name="other").fingerprint == trial.fingerprint
    changes = [
        replace(trial, seed=trial.seed + 1),
        replace(trial, steps=trial.steps + 1),
        replace(trial, learning_rate=trial.learning_rate / 2),
        replace(trial, losses=(AnswerNLL(weight=0.5),)),
        replace(trial, stopping=Stopping(patience=2)),
        replace(trial, translator=replace(trial.translator, soft_tokens=9)),
    ]
    assert len({trial.fingerprint, *(changed.fingerprint for changed in changes)}) == 1 + len(changes)


def test_what_has_no_canonical_form_is_refused():
    @dataclass(frozen=True)
    class Config:
        value: object

    for value in ({1: 2}, object(), float("nan"), lambda: None):
        with pytest.raises(ValueError, match="a config cannot hold"):
            fingerprint(Config(value))


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("subprocess:Popen", "'subprocess:Popen' is not from raybridge or evaluators"),
        ("raybridge.stopping:decide", "there is no such config"),
        ("raybridge.stopping:Sotpping", "there is no such config"),
        ("raybridge.stopping", "there is no such config"),
        ("raybridge.results:TrialRun", "there is no such config"),
        ("raybridge.results.trial_run:TrialRun", "TrialRun is no config"),
        ("raybridge.evaluation.keeping:Keeper", "Keeper is no config"),
        ("raybridge.losses.bridge:Bridge", "Bridge is no config"),
        ("raybridge.stopping:Score", "Score is no config"),
        ("raybridge.attic:Gone", "'raybridge.attic:Gone': No module named 'raybridge.attic'"),
        ("raybridge..stopping:Stopping", "'raybridge..stopping:Stopping': "),
        ("", "'' is not from raybridge"),
        (None, "names its class as 'module:Name', not None"),
        (["a"], "names its class as 'module:Name', not ['a']"),
    ],
)
def test_what_is_no_config_is_refused_in_one_sentence(named, said):
    with pytest.raises(ValueError, match=r".") as caught:
        rebuild({"class": named, "path": "/"})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_without_a_class_and_one_that_is_too_deep_are_refused():
    with pytest.raises(ValueError, match="names its class as 'module:Name', not None"):
        rebuild({"path": "/"})
    nested: Json = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ValueError, match="nested deeper than 20 levels"):
        rebuild(nested)


@dataclass(frozen=True, kw_only=True)
class Mine:
    name: str
    parts: tuple[object, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Own(AnswerNLL):
    pass


def test_packages_are_those_of_the_classes_that_a_config_is_built_of(trial):
    own = Mine.__module__.partition(".")[0]
    assert packages_of(trial) == CONFIG_PACKAGES
    assert packages_of(Mine(name="a", parts=(trial, 1, "os"))) == (*CONFIG_PACKAGES, own)
    assert packages_of(replace(trial, losses=(Own(),))) == (*CONFIG_PACKAGES, own)


def test_the_identity_of_an_experiment_is_all_of_it_but_its_name(trial):
    assert identity(Mine(name="a")) == identity(Mine(name="b")) != identity(Mine(name="a", parts=(1,)))
    assert identity(trial) == trial.fingerprint != fingerprint(trial)


@dataclass(frozen=True, kw_only=True)
class Grown:
    VERSION: ClassVar[int] = 1
    width: int = 4
    depth: int = later(1)


def test_a_field_that_was_added_later_counts_where_it_is_used_and_nowhere_else():
    before = {"class": f"{Grown.__module__}:Grown", "VERSION": 1, "width": 4}
    assert resolve(Grown()) == before
    assert rebuild(before, packages_of(Grown())) == Grown()
    assert resolve(Grown(depth=2)) == before | {"depth": 2}
    assert rebuild(before | {"depth": 2}, packages_of(Grown())) == Grown(depth=2)
    assert identity(Grown()) != identity(Grown(depth=2))
    assert identity(Grown()) != identity(Grown(width=1))
    with pytest.raises(ValueError, match="recorded with fields \\['width'\\]"):
        rebuild({"class": f"{Grown.__module__}:Grown", "VERSION": 1, "depth": 2}, packages_of(Grown()))


def test_a_class_is_its_name_wherever_it_stands(monkeypatch):
    before = identity(Grown())
    with monkeypatch.context() as moved:
        moved.setattr(Grown, "__module__", "elsewhere")
        assert identity(Grown()) == before
    monkeypatch.setattr(Grown, "KIND", "Shrunk", raising=False)
    assert identity(Grown()) != before
    assert rebuild(resolve(Grown()), packages_of(Grown())) == Grown()
    assert identity(grown("Grown")) == before


def test_two_classes_of_one_name_are_refused_in_one_experiment_and_beside_ours():
    with pytest.raises(ValueError, match=r"two configs are called 'Grown', .*test_config:Grown and .*<locals>\.Grown"):
        identity(Mine(name="a", parts=(Grown(), grown("Grown"))))
    with pytest.raises(ValueError, match=r"two configs are called 'Stopping', raybridge\.stopping:Stopping and .*test_config"):
        identity(Mine(name="a", parts=(grown("Stopping"),)))
    assert identity(Mine(name="a", parts=(Stopping(), Grown(), Grown())))


def grown(kind):
    """A config that is like `Grown`, stands elsewhere and calls itself so."""

    @dataclass(frozen=True, kw_only=True)
    class Grown:
        VERSION: ClassVar[int] = 1
        KIND: ClassVar[str] = kind
        width: int = 4

    return Grown()


def test_a_raised_version_is_another_identity_and_is_not_rebuilt(monkeypatch):
    plain, before = resolve(Stopping()), identity(Stopping())
    monkeypatch.setattr(Stopping, "VERSION", Stopping.VERSION + 1)
    assert identity(Stopping()) != before
    with pytest.raises(ValueError, match="Stopping was recorded at version 2, this raybridge has version 3"):
        rebuild(plain)


def test_fields_that_are_not_shared_are_named():
    plain = resolve(Bottlenecked(soft_tokens=4, layers=(0,)))
    del plain["depth"]
    with pytest.raises(ValueError, match="depth"):
        rebuild(plain)


@dataclass(frozen=True, kw_only=True)
class Typed:
    count: int = 1
    rate: float = 0.5
    on: bool = False
    kind: Literal["even", "odd"] = "even"
    layers: tuple[int, ...] = (0,)
    patience: int | None = None
    stopping: Stopping = Stopping()
    late: int = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        typed(self)


@pytest.mark.parametrize(
    ("field", "written", "meant"),
    [
        ("count", 1e3, 1000),
        ("count", np.int64(4), 4),
        ("patience", 3.0, 3),
        ("rate", 1, 1.0),
        ("layers", [0, 2.0], (0, 2)),
        ("late", None, None),
    ],
)
def test_one_value_has_one_form(field, written, meant):
    config = Typed(**{field: written})
    assert (getattr(config, field), type(getattr(config, field))) == (meant, type(meant))
    assert fingerprint(config) == fingerprint(Typed(**{field: meant}))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("count", 4.5, "count must be a whole number, not 4.5"),
        ("count", True, "count must be a whole number, not True"),
        ("count", "abc", "count must be a whole number, not 'abc'"),
        ("count", float("inf"), "count must be a whole number, not inf"),
        ("count", None, "count must be a whole number, not None"),
        ("rate", "fast", "rate must be a finite number, not 'fast'"),
        ("rate", False, "rate must be a finite number, not False"),
        ("rate", float("nan"), "rate must be a finite number, not nan"),
        ("on", 1, "on must be True or False, not 1"),
        ("kind", "evn", "kind must be one of 'even', 'odd' (did you mean 'even'?), not 'evn'"),
        ("layers", 3, "layers must be a tuple, each item a whole number, not 3"),
        ("layers", "12", "layers must be a tuple, each item a whole number, not '12'"),
        ("layers", (1, "a"), "layers must be a tuple, each item a whole number, not (1, 'a')"),
        ("patience", "early", "patience must be a whole number or None, not 'early'"),
        ("stopping", "early", "stopping must be a Stopping, not 'early'"),
        ("stopping", Stopping, "stopping must be a Stopping, not the class Stopping itself (write Stopping(...))"),
        ("late", "x", "late must be a whole number, not 'x'"),
    ],
)
def test_a_field_holds_what_its_annotation_says(field, value, said):
    with pytest.raises(ValueError, match=r".") as caught:
        Typed(**{field: value})
    assert str(caught.value) == f"Typed: {said}"


@dataclass(frozen=True, kw_only=True)
class Unchecked(Loss):
    name: ClassVar[str] = "unchecked"
    weight: float = 1.0
    tokens: int = 8


def test_a_config_that_checks_nothing_is_held_to_its_annotations_where_it_is_put(trial):
    with pytest.raises(ValueError, match=r"Unchecked: tokens must be a whole number, not 2\.5"):
        replace(trial, losses=(Unchecked(tokens=2.5),))
    assert replace(trial, losses=(Unchecked(tokens=2.0),)).losses[0].tokens == 2


def test_a_seed_is_one_that_every_generator_takes():
    check_seed("here", 2**32 - 1)
    for seed in (-1, 2**32, 2**70):
        with pytest.raises(ValueError, match=rf"here must lie in 0\.\.4294967295 \(2\^32 - 1\), not {seed}"):
            check_seed("here", seed)

from dataclasses import dataclass, replace

import pytest

from raybridge.config import CONFIG_PACKAGES, fingerprint, identity, packages_of, rebuild, resolve
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


def test_only_known_classes_are_rebuilt():
    with pytest.raises(ValueError, match="not from raybridge or evaluators"):
        rebuild({"class": "subprocess:Popen", "args": "ls"})
    with pytest.raises(ValueError, match="no such config"):
        rebuild({"class": "raybridge.stopping:decide"})


def test_a_class_that_is_gone_is_said():
    with pytest.raises(ValueError, match=r"'raybridge.attic:Gone': No module named 'raybridge.attic'"):
        rebuild({"class": "raybridge.attic:Gone"})


@dataclass(frozen=True, kw_only=True)
class Mine:
    name: str
    parts: tuple[object, ...] = ()


def test_packages_are_those_of_the_classes_that_a_config_is_built_of(trial):
    own = Mine.__module__.partition(".")[0]
    assert packages_of(trial) == CONFIG_PACKAGES
    assert packages_of(Mine(name="a", parts=(trial, 1, "os"))) == (*CONFIG_PACKAGES, own)
    assert packages_of(replace(trial, losses=(Mine(name="a"),))) == (*CONFIG_PACKAGES, own)


def test_the_identity_of_an_experiment_is_all_of_it_but_its_name(trial):
    assert identity(Mine(name="a")) == identity(Mine(name="b")) != identity(Mine(name="a", parts=(1,)))
    assert identity(trial) == trial.fingerprint != fingerprint(trial)


def test_fields_that_are_not_shared_are_named():
    plain = resolve(Bottlenecked(soft_tokens=4, layers=(0,)))
    del plain["depth"]
    with pytest.raises(ValueError, match="depth"):
        rebuild(plain)

"""A source whose states are kept: the same numbers as from the model, which is asked once and not again."""

from unittest import mock

import pytest
import torch

from raybridge.evaluation.kept_source import KeptSource, Reading
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import setting_of
from raybridge.models import lm
from raybridge.models.frozen import FrozenLM
from raybridge.models.prompts import frame
from raybridge.results.states import States

LAYERS = (0, 2, 4)


@pytest.fixture
def kept(tmp_path):
    return States(root=tmp_path / "states", budget=10**8)


def opened(source, kept, *, loads: bool = True) -> KeptSource:
    """The pocket source by name; where it must not be loaded, loading it is an error."""
    load = (lambda: source) if loads else mock.Mock(side_effect=AssertionError("loaded"))
    return KeptSource("pocket:source", device=torch.device("cpu"), kept=kept, load=load)


@pytest.fixture
def asked(trial, source):
    around = frame(source, trial.evaluator)
    return around.before, around.questions([problem.question for problem in trial.evaluator.problems("train")[:40]])


def test_kept_states_are_those_of_the_model_and_it_need_not_be_there(source, kept, asked):
    before, rows = asked
    opened(source, kept).keep(before, rows, LAYERS)
    again = opened(source, kept, loads=False)
    for part in (rows[:1], rows[7:19], rows[::-3]):
        states, mask = again.hidden_states(before, part, LAYERS)
        wanted, real = source.hidden_states(before, part, LAYERS)
        assert torch.equal(mask, real)
        torch.testing.assert_close(states[mask], wanted[mask], rtol=1e-4, atol=1e-5)


def test_states_do_not_depend_on_how_they_were_read(source, kept, tmp_path, asked):
    before, rows = asked
    opened(source, kept).keep(before, rows, LAYERS)
    other = States(root=tmp_path / "other", budget=10**8)
    for start in range(0, len(rows), 7):
        opened(source, other).keep(before, rows[start : start + 7], LAYERS)
    one, two = (opened(source, where, loads=False).hidden_states(before, rows, LAYERS)[0] for where in (kept, other))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_only_what_is_not_there_is_read(source, kept, asked):
    before, rows = asked
    opened(source, kept).keep(before, rows[:10], LAYERS)
    with mock.patch.object(FrozenLM, "states", autospec=True, side_effect=FrozenLM.states) as passes:
        opened(source, kept).keep(before, rows[:10], LAYERS)
        assert not passes.called
        opened(source, kept).keep(before, rows[5:15], LAYERS)
        assert [call.args[2] for call in passes.call_args_list] == [rows[10:15]]
        passes.reset_mock()
        opened(source, kept).keep(before, rows[:15], (1, 2))
        assert [call.args[3] for call in passes.call_args_list] == [[1]]


def test_of_questions_the_source_reads_those_alone_that_are_not_there(source, kept, asked):
    before, rows = asked
    opened(source, kept).keep(before, rows[:10], LAYERS)
    mixed = [rows[3], rows[20], rows[9], rows[21], rows[20]]
    with mock.patch.object(FrozenLM, "states", autospec=True, side_effect=FrozenLM.states) as passes:
        states, mask = opened(source, kept).states(before, mixed, LAYERS)
    assert [call.args[2] for call in passes.call_args_list] == [[rows[20], rows[21], rows[20]]]
    wanted, real = source.states(before, mixed, LAYERS)
    assert torch.equal(mask, real)
    torch.testing.assert_close(states[mask], wanted[mask], rtol=1e-4, atol=1e-5)


def test_bf16_comes_back_bit_for_bit(kept, asked):
    before, rows = asked
    half = lm.load("pocket:source", device="cpu", dtype=torch.bfloat16)
    with mock.patch("raybridge.evaluation.kept_source.precision", return_value=torch.bfloat16):
        source = opened(half, kept)
        assert source.bytes(10, LAYERS) == 10 * 3 * half.width * 2
        source.keep(before, rows[:5], LAYERS)
        states, mask = opened(half, kept, loads=False).states(before, rows[:5], LAYERS)
    wanted, _ = half.states(before, rows[:5], LAYERS)
    assert states.dtype == torch.bfloat16
    assert torch.equal(states[mask], wanted[mask])


def test_bytes_are_kept_in_the_precision_of_their_device(kept):
    with mock.patch("raybridge.evaluation.kept_source.precision", return_value=torch.bfloat16):
        read = lm.load("bytes", device="cpu", dtype=torch.bfloat16)
        source = KeptSource("bytes", device=torch.device("cpu"), kept=kept, load=lambda: read)
    rows = [read.tokenize("ab"), read.tokenize("c")]
    apart, mask = source.states([0], rows, (0, 1))
    source.keep([0], rows, (0, 1))
    together, _ = source.states([0], rows, (0, 1))
    assert together.dtype == torch.bfloat16
    assert torch.equal(together[mask], apart[mask])
    assert torch.equal(together[0, :2, 0].argmax(-1), torch.tensor(rows[0]))


def test_beyond_the_budget_nothing_is_kept_and_the_model_reads(source, tmp_path, asked):
    before, rows = asked
    kept = States(root=tmp_path / "states", budget=1000)
    small = opened(source, kept)
    small.keep(before, rows, LAYERS)
    assert kept.used == 0
    assert torch.equal(small.states(before, rows, LAYERS)[0], source.states(before, rows, LAYERS)[0])


def test_another_prompt_or_other_weights_are_another_shelf(source, kept, asked):
    before, rows = asked
    one = opened(source, kept)
    one.keep(before, rows[:3], LAYERS)
    assert one.lacking([*before[:-1], 5], rows[:3], LAYERS)
    other = KeptSource("pocket:target", device=torch.device("cpu"), kept=kept, load=lambda: source)
    assert other.lacking(before, rows[:3], LAYERS)


def test_an_evaluation_keeps_what_it_reads_and_the_next_one_needs_no_source(trial, kept, weights):
    setting = setting_of(trial, "dev")
    first, second = Models("cpu", kept=kept), Models("cpu", kept=kept)
    states, mask = first.states(setting, trial.translator.layers)
    with mock.patch.object(Models, "load", side_effect=AssertionError("loaded")):
        again, _ = second.states(setting, trial.translator.layers)
    assert torch.equal(again, states)
    plain, real = Models("cpu").states(setting, trial.translator.layers)
    assert torch.equal(mask, real)
    torch.testing.assert_close(again[mask], plain[mask], rtol=1e-4, atol=1e-5)


def test_a_reading_is_kept_by_the_models_of_a_process(trial, kept, asked):
    before, rows = asked
    models = Models("cpu", kept=kept)
    models.keep(Reading(source="pocket:source", before=before, rows=tuple(map(tuple, rows)), layers=LAYERS))
    assert not opened(None, kept, loads=False).lacking(before, rows, LAYERS)


def test_what_is_said_to_be_read_is_what_is_written_where_questions_lack_different_layers(source, kept, asked):
    before, rows = asked
    one = opened(source, kept)
    one.keep(before, rows[:20], (0,))
    one.keep(before, rows[20:], (3,))
    more, used = one.more(before, rows, (0, 3)), kept.used
    one.keep(before, rows, (0, 3))
    assert not one.lacking(before, rows, (0, 3))
    assert more <= kept.used - used < more + 200 * len(rows), "states, and their checksums"
    again, together = opened(source, kept, loads=False), opened(source, States(root=kept.root / "other"))
    together.keep(before, rows, (0, 3))
    both = [each.hidden_states(before, rows, (0, 3))[0] for each in (again, together)]
    torch.testing.assert_close(*both, rtol=1e-4, atol=1e-5)


def test_a_translator_is_built_once_and_filled_anew_for_other_weights(trial, weights, models):
    setting = setting_of(trial, "dev")
    build = type(trial.translator).build
    with mock.patch.object(type(trial.translator), "build", autospec=True, side_effect=build) as built:
        models._built.clear()
        for _ in range(3):
            one = models.module(setting, weights)
        others = {name: tensor + 1 for name, tensor in weights.items()}
        two = models.module(setting, others)
    assert built.call_count == 1
    assert one is two
    name = next(iter(others))
    assert torch.equal(two.state_dict()[name], others[name])


def test_what_is_not_wanted_is_let_go_only_where_the_device_is_nearly_full(trial):
    models = Models("cpu")
    models.load(trial.source)
    models.load(trial.target)
    models.hold([trial.target])
    assert set(models._models) == {trial.source, trial.target}
    with mock.patch("raybridge.evaluation.models.nearly_full", return_value=True):
        models.hold([trial.target])
    assert set(models._models) == {trial.target}

"""Which other problems a control looks at: a fact of the setting, whatever is asked together and whatever is missing."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from asking import with_arms
from hypothesis import given
from hypothesis import strategies as st

from raybridge.arms import find
from raybridge.arms.controls import partners
from raybridge.data import Problem
from raybridge.evaluation import setting as settings
from raybridge.evaluation.answering import answer, in_order
from raybridge.evaluation.keeping import Keeper
from raybridge.evaluation.prompt import taken
from raybridge.evaluation.setting import BATCH, Setting, setting_of
from raybridge.scales import POCKET
from raybridge.translators.soft_tokens import SoftTokens

ARMS = [find(name) for name in ("bridged", "shuffled", "mean")]
COUNTS = st.one_of(st.integers(2, 20), st.sampled_from([127, 128, 129, 130, 256, 257, 300]))


def setting_with(count: int) -> Setting:
    questions = ("x" * (10 + (i * 7) % 13) for i in range(count))
    problems = [Problem(id=f"p/{i}", question=q, gold="1", rationale="#### 1") for i, q in enumerate(questions)]
    base = setting_of(POCKET.trial, "dev")
    return replace(base, problems=tuple(problems))


def earlier_batches(setting: Setting) -> list[list[str]]:
    """The ids of the batches by which rows were answered when a batch was a block: at its size of 128."""
    ordered = sorted(setting.problems, key=lambda problem: (len(problem.question), problem.id))
    cut = [ordered[start : start + 128] for start in range(0, len(ordered), 128)]
    if len(cut) > 1 and len(cut[-1]) < 2:
        cut[-2:] = [cut[-2] + cut[-1]]
    return [[problem.id for problem in batch] for batch in cut]


def written_numbers(setting: Setting, names: list[str]) -> SoftTokens:
    """Soft tokens of which each begins with the number of its problem; the mean of several is told by its direction."""
    numbers = torch.tensor([[[float(name.removeprefix("p/")), 1.0]] for name in names])
    return SoftTokens(target=SimpleNamespace(embedding_rms=1.0), names=tuple(names), size=1, written_BKD=numbers)


def crossed(setting: Setting, arm: str, **asked) -> dict[str, float]:
    """By problem, what an arm takes when it is asked in requests of some size."""
    found = {}
    for request in setting.requests([find(arm)], **asked):
        names = [problem.id for block in request.blocks for problem in block]
        soft = taken(request, find(arm), written_numbers(setting, names))
        found |= dict(zip(request.setting.ids, soft.values[:, 0, 0].tolist(), strict=True))
    return found


@given(count=COUNTS, seed=st.integers(0, 2**31 - 1), size=st.integers(1, 400))
def test_shuffled_takes_what_it_took_when_a_batch_was_a_block_whatever_the_size(count, seed, size):
    setting = replace(setting_with(count), seed=seed)
    earlier = {
        name: float(batch[other].removeprefix("p/"))
        for batch in earlier_batches(setting)
        for name, other in zip(batch, partners(len(batch), seed), strict=True)
    }
    assert crossed(setting, "shuffled", size=size) == earlier


@given(count=COUNTS, size=st.integers(1, 400), data=st.data())
def test_some_of_the_problems_take_what_all_of_them_do(count, size, data):
    setting = setting_with(count)
    only = data.draw(st.sets(st.sampled_from(setting.ids), min_size=1))
    for arm in ("shuffled", "mean"):
        whole = crossed(setting, arm)
        assert crossed(setting, arm, size=size, only=only) == pytest.approx({name: whole[name] for name in only})


@given(count=COUNTS, size=st.integers(1, 400))
def test_requests_hold_every_problem_once_by_length_and_the_blocks_they_stand_in(count, size):
    setting = setting_with(count)
    requests = setting.requests(ARMS, size=size)
    asked = [problem for request in requests for problem in request.problems]
    assert sorted(problem.id for problem in asked) == sorted(setting.ids)
    lengths = [len(problem.question) for problem in asked]
    assert lengths == sorted(lengths)
    assert max(len(request.problems) for request in requests) == min(size, count)
    for request in requests:
        assert set(request.problems) <= {problem for block in request.blocks for problem in block}
        assert all(block in setting.blocks and not set(block).isdisjoint(request.problems) for block in request.blocks)


def test_a_lone_problem_has_no_other_to_be_shuffled_with():
    alone = setting_with(1)
    assert len(alone.requests([find("bridged")])) == 1
    with pytest.raises(ValueError, match="at least 2 problems"):
        alone.requests(ARMS)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(settings, "BLOCK", 4)


@pytest.mark.parametrize("size", [1, 7])
def test_rows_do_not_depend_on_the_size_of_a_request(trial, models, weights, small_blocks, size):
    setting = setting_of(trial, "dev")

    def rows(size: int):
        found = [row for request in setting.requests(ARMS, size=size) for row in answer(request, models, weights)]
        return in_order(sorted(found, key=lambda row: [arm.name for arm in ARMS].index(row["arm"])), setting.problems)

    one, other = rows(BATCH), rows(size)
    assert one["completion"].tolist() == other["completion"].tolist()
    for column in ("nll", "reconstruction_nll"):
        assert one[column].tolist() == pytest.approx(other[column].tolist(), rel=1e-4)


def test_neighbours_beyond_a_block_change_nothing(trial, models, weights, small_blocks):
    whole = setting_of(trial, "dev")
    (request,) = replace(whole, problems=whole.blocks[0]).requests(ARMS)
    (first, _) = whole.requests(ARMS, size=4)
    for one, other in zip(answer(request, models, weights), answer(first, models, weights), strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_a_part_of_a_block_gets_the_rows_of_an_evaluation_at_once(keeper: Keeper, small_blocks):
    at_once = keeper.rows(ARMS)
    requests = keeper.setting.requests([find("shuffled")], only=set(keeper.setting.ids[2:4]))
    rows = [row for request in requests for row in answer(request, keeper.answerer.models, keeper.trained.weights)]
    of_all = at_once[at_once["arm"] == "shuffled"].set_index("problem")
    assert sorted(row["problem"] for row in rows) == sorted(keeper.setting.ids[2:4])
    for row in rows:
        assert row["completion"] == of_all.loc[row["problem"], "completion"]
        assert row["nll"] == pytest.approx(of_all.loc[row["problem"], "nll"], rel=1e-4)


def test_bridged_takes_its_own_of_what_was_written_for_whole_blocks(models, trial, weights, small_blocks):
    (request, *_) = setting_of(trial, "dev").requests(ARMS, size=2)
    together = answer(request, models, weights)
    alone = answer(with_arms(request, "bridged"), models, weights)
    assert [row["completion"] for row in together[:2]] == [row["completion"] for row in alone]


def test_long_questions_are_read_in_parts_and_the_rows_are_the_same(models, trial, weights, monkeypatch):
    (request,) = setting_of(trial, "dev").requests(ARMS)
    handed = replace(request, arms=(find("cascade"),), answers={"source": tuple(request.setting.ids)})
    whole, passed_on = answer(request, models, weights), answer(handed, models)
    asked, written = [], models.written
    monkeypatch.setattr(models, "written", lambda one, weights: asked.append(one.problems) or written(one, weights))
    longest = max(len(problem.question) for problem in request.problems)
    monkeypatch.setattr("raybridge.evaluation.prompt.AT_ONCE", 3 * longest)
    parts = answer(request, models, weights)
    assert len(asked) > 1
    assert sorted(problem.id for part in asked for problem in part) == sorted(request.setting.ids)
    assert all(len(part) * max(len(problem.question) for problem in part) <= 3 * longest for part in asked)
    for one, other in ((whole, parts), (passed_on, answer(handed, models))):
        before, after = (in_order(rows, request.problems) for rows in (one, other))
        assert before["completion"].tolist() == after["completion"].tolist()
        assert before["prompt_hash"].tolist() == after["prompt_hash"].tolist()
        assert before["nll"].tolist() == pytest.approx(after["nll"].tolist(), rel=1e-4)

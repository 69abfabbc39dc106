from dataclasses import replace

import pytest
import tiny_lms
import torch
from full_scale import LLAMA_8B
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_configs import GROUPED
from transformers import MistralConfig

from raybridge.models import decode, prefill, probe
from raybridge.models.capacity import rows_at_a_time
from raybridge.models.choice import nucleus, uniform
from raybridge.models.decode import greedy, stack
from raybridge.models.frozen import FrozenLM
from raybridge.models.hardening import PLAIN, Hardening
from raybridge.models.kv_cache import kv_bytes
from raybridge.models.pieces import join
from raybridge.models.prefill import Prefix, prefilled
from raybridge.models.prompts import frame
from raybridge.scales import POCKET

EVALUATOR = POCKET.trial.evaluator


def questions(count: int) -> list[str]:
    return [problem.question for problem in EVALUATOR.problems("dev")[:count]]


def by_transformers(target, prompt: list[int], length: int) -> str:
    out = target.model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=length, do_sample=False
    )
    return target.text(out[0, len(prompt) :])


def test_greedy_writes_what_transformers_generate_writes(target):
    around = frame(target, EVALUATOR)
    texts = questions(6)
    rows = [around.question(text) for text in texts]
    ours = greedy(
        target, [target.text_piece(rows), target.text_piece([around.after] * 6)], max_new_tokens=40, shared=around.before
    )
    for text, completion in zip(texts, ours, strict=True):
        assert completion.text == by_transformers(target, around.prompt(text), 40)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_row_decodes_alone_as_in_a_batch(target, side):
    around = frame(target, EVALUATOR)
    rows = [around.question(text) for text in questions(5)]

    def run(rows: list[list[int]]) -> list[str]:
        pieces = [target.text_piece(rows, side=side), target.text_piece([around.after] * len(rows))]
        return [c.text for c in greedy(target, pieces, max_new_tokens=30, shared=around.before)]

    assert run(rows) == [text for row in rows for text in run([row])]


def test_a_shared_prompt_computed_once_changes_nothing(target):
    around = frame(target, EVALUATOR)
    rows = [around.question(text) for text in questions(4)]
    after = target.text_piece([around.after] * 4)
    once = greedy(target, [target.text_piece(rows), after], max_new_tokens=24, shared=around.before)
    each = greedy(target, [target.text_piece([[*around.before, *row] for row in rows]), after], max_new_tokens=24)
    assert once == each


def held(lm, pieces, shared, **told):
    """Positions of keys that the first layer holds for the rows of a batch when their prompts have been read."""
    context, _ = prefilled(lm, join(pieces), Prefix.read(lm, shared, **told))
    return context.cache.layers[0].keys.shape[2], context.prefix


def test_rows_keep_no_copy_of_the_prompt_they_share(target):
    around = frame(target, EVALUATOR)
    pieces = [target.text_piece([around.question(text) for text in questions(4)])]
    longest = max(pieces[0].lengths)
    assert target.shares_prompts
    kept, prefix = held(target, pieces, around.before, once=True)
    assert kept == longest
    assert prefix.cache.layers[0].keys.shape[::2] == (1, len(around.before))
    kept, prefix = held(target, pieces, around.before, once=False)
    assert kept == longest + len(around.before)
    assert prefix is None


@pytest.mark.parametrize("window", [None, 40, 24])
def test_a_window_that_is_shorter_than_the_rows_asks_for_copies(window, monkeypatch):
    """Whether it reaches or not, completions are those of rows that hold the shared prompt themselves."""
    lm = probe.seen(FrozenLM("windowed", tiny_lms.made(MistralConfig(**GROUPED, sliding_window=window)), tiny_lms.tokenizer()))
    assert lm.shares_prompts
    asked = []
    read = Prefix.read
    monkeypatch.setattr(Prefix, "read", lambda *args, once: asked.append(once) or read(*args, once=once))
    rows, shared = [[5, 6, 7, 8], [9], [10, 11, 12, 13, 14, 15]], list(range(20, 40))
    soft = [lm.soft_piece(torch.randn(3, 2, lm.width, generator=torch.Generator().manual_seed(0))), lm.text_piece(rows)]
    injected = replace(soft[0], injected={1: soft[0].embeds_BTD})
    for pieces in ([lm.text_piece(rows)], soft, [injected, soft[1]]):
        done = greedy(lm, pieces, max_new_tokens=12, shared=shared)
        assert done == greedy(lm, [lm.text_piece([shared] * 3), *pieces], max_new_tokens=12)
        assert asked[0] == (window != 24), "20 shared tokens, up to 8 of a row's own and 12 new ones"
        asked.clear()


def test_prompts_read_in_several_passes_complete_as_those_of_one(target, monkeypatch):
    around = frame(target, EVALUATOR)
    pieces = [
        target.text_piece([around.question(text) for text in questions(5)] + [[]]),
        target.text_piece([around.after] * 5 + [[]]),
    ]
    together = greedy(target, pieces, max_new_tokens=20, shared=around.before)
    monkeypatch.setattr(prefill, "POSITIONS", 30)
    assert greedy(target, pieces, max_new_tokens=20, shared=around.before) == together
    monkeypatch.setattr(target, "shares_prompts", False)
    assert greedy(target, pieces, max_new_tokens=20, shared=around.before) == together


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_completions_do_not_depend_on_how_many_rows_find_room(name, monkeypatch):
    lm = probe.seen(tiny_lms.tiny(name))
    pieces = [lm.text_piece([[5, 6, 7, 8], [9], [10, 11, 12, 13, 14, 15], [16], [17, 18]])]
    sampled = dict(shared=[2, 3, 4], names=list("abcde"), hardening=Hardening(top_p=0.9, temperature=2.0))
    together = greedy(lm, pieces, max_new_tokens=5, **sampled)
    monkeypatch.setattr(decode, "free_bytes", lambda device: 0)
    assert greedy(lm, pieces, max_new_tokens=5, **sampled) == together


def test_rows_of_an_8b_model_that_find_room_beside_others_on_80_gb():
    lengths = [3500] * 64 + [200] * 400  # HotpotQA, and GSM8K behind exemplars that exist once
    parts = rows_at_a_time(LLAMA_8B, lengths, new=256, free=[(30 * 2**30, 1.0)], value_bytes=2)
    assert len(parts) < 6
    for part in parts:
        kept = len(part) * (max(lengths[row] for row in part) + 256) * kv_bytes(LLAMA_8B, 1)
        assert kept < 26 * 2**30, "keys and values leave room for a pass"


@settings(max_examples=5)
@given(st.integers(1, 20))
def test_a_completion_has_at_most_as_many_tokens_as_allowed(target_limit):
    from raybridge.models import lm

    target = lm.load("pocket:target", device="cpu")
    around = frame(target, EVALUATOR)
    done = greedy(target, [target.text_piece([around.prompt(questions(1)[0])])], max_new_tokens=target_limit)
    assert done[0].tokens <= target_limit


def test_the_trap_a_completion_that_runs_on_is_cut_at_a_stop_string(target):
    around = frame(target, EVALUATOR)
    pieces = [target.text_piece([around.prompt(questions(1)[0])])]
    whole = greedy(target, pieces, max_new_tokens=60)[0]
    assert "####" in whole.text
    cut = greedy(target, pieces, max_new_tokens=60, stop=("####",))[0]
    assert cut.text == whole.text[: whole.text.index("####")]
    assert not cut.truncated
    assert not whole.truncated
    assert greedy(target, pieces, max_new_tokens=4)[0].truncated


def test_prompts_of_different_lengths_decoded_together_write_what_they_write_alone(target):
    around = frame(target, EVALUATOR)
    rows = [around.question(text) for text in questions(4)]
    after = target.text_piece([around.after] * 4)
    prompts = [[target.text_piece(rows), after], [target.text_piece([row[:5] for row in rows]), after], [after]]
    alone = [one for pieces in prompts for one in greedy(target, pieces, max_new_tokens=30, shared=around.before)]
    assert greedy(target, [stack(prompts)], max_new_tokens=30, shared=around.before) == alone
    assert len({one.text for one in alone}) > 4


def prompts(target, count: int = 4):
    around = frame(target, EVALUATOR)
    rows = [around.prompt(text) for text in questions(count)]
    return [target.text_piece(rows, side="left")], [str(number) for number in range(count)]


def test_a_completion_says_whether_it_ended_and_its_first_token(target):
    pieces, _ = prompts(target)
    whole, short = greedy(target, pieces, max_new_tokens=60), greedy(target, pieces, max_new_tokens=3)
    cut = greedy(target, pieces, max_new_tokens=60, stop=("####",))
    assert [one.ended for one in whole] == [True] * 4
    assert [one.ended for one in short] == [one.ended for one in cut] == [False] * 4
    for one in whole:
        assert one.text.startswith(target.text([one.first]))


def test_the_end_ban_holds_for_its_tokens_and_no_longer(target):
    pieces, _ = prompts(target)
    plain = greedy(target, pieces, max_new_tokens=60)
    longest = max(one.tokens for one in plain)
    banned = greedy(target, pieces, max_new_tokens=longest + 8, hardening=Hardening(ban_end=longest + 3))
    assert min(one.tokens for one in banned) > longest + 3
    for one, other in zip(banned, plain, strict=True):
        assert one.text.startswith(other.text)
    assert greedy(target, pieces, max_new_tokens=60, hardening=Hardening(ban_end=2)) == plain  # none wants to end so early


@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`")
def test_the_repetition_penalty_is_that_of_transformers(target):
    pieces, _ = prompts(target, 3)
    ours = greedy(target, pieces, max_new_tokens=24, hardening=Hardening(repetition_penalty=3.0))
    for row, one in enumerate(ours):
        kept = pieces[0].mask_BT[row]
        out = target.model.generate(
            inputs_embeds=pieces[0].embeds_BTD[row][kept][None],
            attention_mask=torch.ones(1, int(kept.sum())),
            max_new_tokens=24,
            do_sample=False,
            repetition_penalty=3.0,
        )
        assert one.text == target.text(out[0])
    assert ours != greedy(target, pieces, max_new_tokens=24)


def test_the_first_token_is_drawn_by_problem_and_not_by_place(target):
    pieces, names = prompts(target)
    drawn = Hardening(top_p=0.999, temperature=3.0)
    first = greedy(target, pieces, max_new_tokens=8, hardening=drawn, names=names)
    backwards = [pieces[0].rows(range(len(names))[::-1])]
    assert greedy(target, backwards, max_new_tokens=8, hardening=drawn, names=names[::-1]) == first[::-1]
    assert greedy(target, pieces, max_new_tokens=8, hardening=replace(drawn, seed=1), names=names) != first
    narrow = Hardening(top_p=1e-6)
    assert greedy(target, pieces, max_new_tokens=8, hardening=narrow, names=names) == greedy(target, pieces, max_new_tokens=8)


def test_the_nucleus_holds_the_likeliest_that_reach_its_share():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().repeat(1000, 1)
    draws = torch.arange(1000) / 1000
    tokens = nucleus(logits, 0.75, 1.0, draws)
    counts = tokens.bincount(minlength=4)
    assert counts.tolist() == [625, 375, 0, 0]
    assert nucleus(logits, 1.0, 1.0, draws).bincount(minlength=4).tolist() == pytest.approx([500, 300, 150, 50], abs=1)
    flat = nucleus(logits, 1.0, 100.0, draws).bincount(minlength=4)
    assert flat.min() > 230
    numbers = uniform([str(i) for i in range(2000)], 0)
    assert numbers.mean() == pytest.approx(0.5, abs=0.02)
    assert numbers.min() >= 0
    assert numbers.max() < 1


def test_hardening_is_off_by_default_and_told_when_it_is_on():
    assert PLAIN.plain
    assert not PLAIN.label
    on = Hardening(top_p=0.95, ban_end=4, repetition_penalty=1.1, anchor="Answer:", bos=True)
    assert on.label == "+p0.95t0.7s0+ban4+rep1.1+anchor(Answer:)+bos"


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"top_p": 0.0}, "top_p must lie above 0"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"ban_end": -1}, "ban_end must be at least 0"),
        ({"repetition_penalty": 0.9}, "repetition_penalty must be at least 1"),
        ({"anchor": "So: "}, "must not begin or end with space"),
    ],
)
def test_hardening_refuses_what_makes_no_sense(option, says):
    with pytest.raises(ValueError, match=says):
        Hardening(**option)

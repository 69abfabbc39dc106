"""Every architecture against transformers run on one row without pads: states, NLL and completions, whatever the batch."""

from __future__ import annotations

from functools import cache

import pytest
import tiny_lms
import torch
import torch.nn.functional as F
from torch import Tensor

from raybridge import HOUSE
from raybridge.models import probe
from raybridge.models.decode import greedy, stack
from raybridge.models.frozen import FrozenLM

DOCS = HOUSE / "docs" / "MODELS.md"
NEW = 3  # tokens of a completion
K = 4  # soft tokens
WITHOUT_EMBEDDINGS = ("mamba", "mamba2", "rwkv")  # transformers counts their states from the first layer's output
CLOSE = dict(rtol=1e-4, atol=1e-4)


def drawn(*lengths: int, seed: int) -> list[list[int]]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(2, tiny_lms.TOKENS, (length,), generator=draw).tolist() for length in lengths]


((*BEFORE,),) = drawn(11, seed=0)  # longer than a window
BEFORE = [0, *BEFORE]
AFTER = [40, 41, 42]
QUESTIONS = drawn(9, 3, 14, 1, 6, 9, 2, 11, 5, 17, 4, 8, 13, 7, 10, 3, seed=1)
ANSWERS = drawn(5, 3, 8, 4, 6, 2, 7, 5, 3, 6, 4, 5, 8, 2, 5, 4, seed=2)
BATCHES = {1: 2, 2: 4, 16: 16}  # batch size -> how many of the questions are read in such batches


@cache
def seen(name: str) -> FrozenLM:
    return probe.seen(tiny_lms.tiny(name))


@torch.no_grad()
def states_of(lm: FrozenLM, ids: list[int]) -> Tensor:
    """What transformers makes of one row: every layer's states (T, L, D), at unit RMS."""
    output = lm.body(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False)
    states = output.hidden_states
    if lm.name in WITHOUT_EMBEDDINGS:
        states = [lm.embed(torch.tensor([ids])), *states]
    states_TLD = torch.stack([*states[: lm.depth], output.last_hidden_state], dim=2)[0]
    return F.rms_norm(states_TLD.float(), states_TLD.shape[-1:])


@torch.no_grad()
def logits_of(lm: FrozenLM, prompt: list[int] | Tensor, ids: list[int]) -> Tensor:
    """What transformers makes of one row: the logits of the tokens after a prompt of tokens, or of embeddings (T, D)."""
    if isinstance(prompt, list):
        given = {"input_ids": torch.tensor([prompt + ids])}
    else:
        given = {"inputs_embeds": torch.cat([prompt, lm.embed(torch.tensor(ids))]).unsqueeze(0)}
    return lm.model(**given, use_cache=False).logits[0, len(prompt) - 1 : -1].float()


def nll_of(logits_AV: Tensor, ids: list[int]) -> Tensor:
    return F.cross_entropy(logits_AV, torch.tensor(ids), reduction="none")


def embedded(lm: FrozenLM, soft_KD: Tensor, text: list[int]) -> Tensor:
    ids = [torch.tensor(one, dtype=torch.long) for one in (BEFORE, text, AFTER)]
    before, text_TD, after = (lm.embed(one) for one in ids)
    return torch.cat([before, soft_KD, text_TD, after])


def batches(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


@pytest.fixture
def lm(request) -> FrozenLM:
    return seen(request.param)


every_target = pytest.mark.parametrize("lm", tiny_lms.TARGETS, indirect=True)
every_source = pytest.mark.parametrize("lm", [*tiny_lms.TARGETS, *tiny_lms.SOURCE_ALONE], indirect=True)


@every_source
def test_states_are_those_of_one_row(lm):
    rows = [states_of(lm, BEFORE + question)[len(BEFORE) :] for question in QUESTIONS]
    for size, count in BATCHES.items():
        for part in batches(count, size):
            states, mask = lm.hidden_states(BEFORE, QUESTIONS[part], range(lm.depth + 1))
            assert mask.sum(1).tolist() == [len(question) for question in QUESTIONS[part]]
            torch.testing.assert_close(states[mask], torch.cat(rows[part]), **CLOSE)


@every_target
def test_answers_have_the_nll_and_completions_the_tokens_of_one_row(lm):
    assert lm.source_alone is None
    soft = lm.embedding_rms * torch.randn(len(QUESTIONS), K, lm.width, generator=torch.Generator().manual_seed(3))
    prompts = {  # what stands in the question's place: text, soft tokens, both
        "text": [[*BEFORE, *question, *AFTER] for question in QUESTIONS],
        "soft": [embedded(lm, one, []) for one in soft],
        "both": [embedded(lm, one, question) for one, question in zip(soft, QUESTIONS, strict=True)],
    }
    wanted = {
        place: [nll_of(logits_of(lm, prompt, ids), ids) for prompt, ids in zip(rows, ANSWERS, strict=True)]
        for place, rows in prompts.items()
    }
    told: dict[tuple[int, ...], list[int]] = {}  # a row writes the same in every batch: transformers is asked once

    def likeliest(prompt: list[int] | Tensor, written: list[int]) -> list[int]:
        key = (id(prompt), *written)
        if key not in told:
            told[key] = logits_of(lm, prompt, written).argmax(-1).tolist()
        return told[key]

    for size, count in BATCHES.items():
        for part in batches(count, size):
            text = lm.text_piece(QUESTIONS[part], side="left")
            places = {"text": [text], "soft": [lm.soft_piece(soft[part])], "both": [lm.soft_piece(soft[part]), text]}
            after = lm.text_piece([AFTER] * size)
            for place, pieces in places.items():
                nll = lm.answer_nll([lm.text_piece([BEFORE] * size), *pieces, after], ANSWERS[part])
                real = torch.cat([row[: len(ids)] for row, ids in zip(nll, ANSWERS[part], strict=True)])
                torch.testing.assert_close(real, torch.cat(wanted[place][part]), **CLOSE)
            together = stack([[*places[place], after] for place in ("text", "soft")])
            done = greedy(lm, [together], max_new_tokens=NEW, shared=BEFORE)
            for prompt, one in zip(prompts["text"][part] + prompts["soft"][part], done, strict=True):
                written = tiny_lms.tokens(one.text) + [1] * one.ended
                assert len(written) == one.tokens == NEW or one.ended
                assert likeliest(prompt, written) == written


@pytest.mark.parametrize(("name", "reason"), tiny_lms.SOURCE_ALONE.items())
def test_a_model_that_passes_as_a_source_alone_says_so(name, reason):
    lm = seen(name)
    assert lm.source_alone.startswith(reason)
    with pytest.raises(ValueError, match=rf"model '{name}' can be a source and no target: {reason}"):
        lm.soft_piece(torch.zeros(1, 2, lm.width))
    with pytest.raises(ValueError, match="can be a source and no target"):
        greedy(lm, [lm.text_piece([BEFORE])], max_new_tokens=1)


@pytest.mark.parametrize(("name", "reason"), tiny_lms.REFUSED.items())
def test_an_architecture_that_is_not_understood_is_refused_by_its_name(name, reason):
    model = tiny_lms.tiny(name)
    with pytest.raises(ValueError) as refused:
        probe.seen(model)
    assert f"({type(model.model).__name__})" in str(refused.value)
    assert reason in str(refused.value)


def test_the_table_of_the_docs_says_what_is_seen():
    told = {
        cells[0]: cells[2:5]
        for cells in ([cell.strip() for cell in line.split("|")[1:-1]] for line in DOCS.read_text(encoding="utf8").splitlines())
        if len(cells) == 6 and cells[0] in tiny_lms.CONFIGS
    }
    assert told == {
        name: [
            "no" if name in tiny_lms.REFUSED else "yes",
            "yes" if name in tiny_lms.TARGETS else "no",
            "yes" if name in tiny_lms.TARGETS and seen(name).shares_prompts else "no",
        ]
        for name in tiny_lms.CONFIGS
    }

"""What a translator is fitted from: aligned tokens of both models, gathered only where it asks."""

from unittest import mock

import pytest
import torch

from raybridge.training import fitting
from raybridge.training.fitting import align, fit
from raybridge.translators import TranslatorModule
from raybridge.translators.options import ProjectedModule
from raybridge.translators.prompt_tuning import PromptTuning
from raybridge.translators.ridge import Moments


class Asking(TranslatorModule):
    """Keeps what it is fitted from."""

    def __init__(self, *needs: str) -> None:
        super().__init__()
        self.needs = frozenset(needs)

    @property
    def fitted_from(self) -> frozenset[str]:
        return self.needs

    def fit(self, moments) -> None:
        self.given = moments


def test_alignment_names_the_token_that_covers_the_last_character():
    assert align([1, 2, 5], [2, 5]) == [0, 0, 1]
    assert align([5], [1, 2, 5]) == [2]


@pytest.mark.parametrize("at_once", [2, 16])
def test_each_source_token_comes_with_the_target_token_that_covers_its_end(batches, source, target, at_once, monkeypatch):
    monkeypatch.setattr(fitting, "AT_ONCE", at_once)
    module = Asking("embeddings", "nll")
    fit(module, batches, problems=6)
    states, embeddings, nll = [], [], []
    for problem in batches.problems[:6]:
        row, text = batches.source.question(problem.question), batches.target.question(problem.question)
        ours, theirs = (side.question_ends([problem.question])[0] for side in (batches.source, batches.target))
        covering = [next(i for i, end in enumerate(theirs) if end >= one) for one in ours]
        read, _ = source.hidden_states(batches.source.before, [row], batches.trial.translator.layers)
        states.append(read[0].flatten(1))
        embeddings.append(target.embed(torch.tensor(text)[covering]))
        with torch.no_grad():
            logits = target.model(torch.tensor([[*batches.target.before, *text]])).logits[0, -len(text) - 1 : -1]
        nll.append(torch.nn.functional.cross_entropy(logits, torch.tensor(text), reduction="none")[covering])
    wanted = Moments.of(torch.cat(states), embeddings=torch.cat(embeddings), nll=torch.cat(nll).unsqueeze(1))
    assert module.given.count == wanted.count
    for name in ("embeddings", "nll"):
        torch.testing.assert_close(module.given.ridge(name), wanted.ridge(name), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("needs", [("embeddings",), ("nll",)])
def test_what_a_translator_does_not_ask_for_is_not_gathered(batches, target, needs):
    module = Asking(*needs)
    with mock.patch.object(type(target), "answer_nll", autospec=True, side_effect=type(target).answer_nll) as passes:
        fit(module, batches, problems=3)
    for name in ("embeddings", "nll"):
        if name in needs:
            assert module.given.rms(name) > 0
        else:
            with pytest.raises(KeyError):
                module.given.rms(name)
    assert passes.call_count == len({"nll"} & set(needs))


def test_a_translator_that_is_fitted_from_nothing_costs_nothing(batches, source):
    module = PromptTuning(soft_tokens=3).build(source.width, 8, target_rms=1.0)
    with mock.patch.object(type(source), "hidden_states", side_effect=AssertionError):
        fit(module, batches)


def test_a_wrapped_translator_is_fitted_from_the_states_that_it_reads(batches, source):
    module = ProjectedModule(source.width, Asking("embeddings"))
    torch.nn.init.normal_(module.turn.weight)
    fit(module, batches, problems=1)
    states_BTLS, _ = batches.states(batches.tokens(batches.problems[:1]))
    embeddings = batches.target.lm.embed(torch.tensor(batches.target.question(batches.problems[0].question)))
    ends = [side.question_ends([batches.problems[0].question])[0] for side in (batches.source, batches.target)]
    wanted = Moments.of(module.changed(states_BTLS)[0].flatten(1).detach(), embeddings=embeddings[align(*ends)])
    torch.testing.assert_close(module.inner.given.ridge("embeddings"), wanted.ridge("embeddings"))

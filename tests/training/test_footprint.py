"""What a trial takes on a card, part by part, as it is predicted: against what was measured."""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from full_scale import CARD, GSM8K, LLAMA_8B, footprint, peak
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from raybridge.data import data_folder
from raybridge.losses.next_token import AnswerNLL
from raybridge.models.kv_cache import kv_bytes
from raybridge.models.memory import UnpredictableError, weight_bytes
from raybridge.scales import FULL
from raybridge.training import lengths
from raybridge.training.footprint import GIB, footprint_of, translator_memory
from raybridge.training.lengths import lengths_of
from raybridge.training.memory import fits
from raybridge.training.micro_batches import Cut
from raybridge.translators import OneTarget, TranslatorModule

FOLDER = os.environ.get("RAYBRIDGE_TOKENIZERS")


@pytest.mark.parametrize(("batch", "measured"), [(8, 50.1), (16, 65.3)])
def test_a_worker_takes_what_was_measured_on_an_h100(batch, measured):
    assert peak(64, batch) == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(("soft_tokens", "batch"), [(64, 32), (512, 8)])
def test_what_ran_out_of_memory_is_predicted_to(soft_tokens, batch):
    assert peak(soft_tokens, batch) > CARD


@given(problems=st.integers(1, 32), soft_tokens=st.sampled_from([16, 64]))
def test_more_problems_take_more_and_recomputed_layers_less(problems, soft_tokens):
    one = footprint(soft_tokens, 32)
    cuts = (Cut(problems=problems), Cut(problems=problems, recomputed=True), Cut(problems=problems + 1))
    plain, again, more = (sum(one.worker(cut).values()) for cut in cuts)
    assert again < plain < more


def test_the_fullest_card_counts_and_more_cards_hold_less():
    cut = Cut(problems=4)
    sums = [sum(replace(footprint(64, 8), cards=cards).worker(cut).values()) for cards in (1, 2, 4)]
    assert sums == sorted(sums, reverse=True)
    assert "logits" in replace(footprint(64, 8), cards=2).worker(cut), "the first card has the ends"


def test_a_source_and_a_target_in_other_bits_are_two_models():
    one = footprint(64, 8, source=LLAMA_8B, bits=(16, 4), states_on_disk=False)
    both = weight_bytes(LLAMA_8B) + weight_bytes(LLAMA_8B, bits=4)
    assert one.worker(Cut(problems=8))["models"] == pytest.approx(both / GIB)


def test_bits_behind_a_name_and_cards_are_in_the_plan(trial):
    packed = replace(trial, target="pocket:target:4bit")
    assert footprint_of(packed, workers=2, cards=1, states_on_disk=True).bits == (16, 4)
    line = fits(trial, workers=2, card=8.0, cards=2)
    assert line.endswith("so on the fullest of 2 cards, each of which has 8 GiB")


def test_a_model_that_is_source_and_target_is_held_once():
    one = footprint(64, 8, source=LLAMA_8B, states_on_disk=False)
    assert one.worker(Cut(problems=8))["models"] == pytest.approx(weight_bytes(LLAMA_8B) / GIB)


def test_a_translator_is_counted_as_it_is_built_and_draws_nothing():
    translator = replace(FULL.trial.translator, width=64, heads=2, depth=1, layers=(0, 1), soft_tokens=4)
    before = torch.random.get_rng_state()
    weights, kept = translator_memory(translator, 32, 48, 10)
    assert torch.equal(torch.random.get_rng_state(), before)
    built = translator.build(32, 48, target_rms=1.0)
    assert weights == sum(p.numel() for p in built.parameters())
    assert kept < translator_memory(replace(translator, soft_tokens=8), 32, 48, 10)[1]


@dataclass(frozen=True, kw_only=True)
class Asking(OneTarget):
    """A translator that asks its mask how many positions are real."""

    soft_tokens: int = 4
    layers: tuple[int, ...] = (0,)

    def build(self, source_dim, target_dim, *, target_rms):
        module = TranslatorModule()
        module.forward = lambda states_BTLS, mask_BT: states_BTLS[mask_BT]
        return module


def test_a_translator_that_asks_what_it_reads_is_not_predicted_and_not_refused(trial):
    with pytest.raises(UnpredictableError, match="what Asking keeps depends on what it reads"):
        translator_memory(Asking(), 32, 48, 10)
    told = fits(replace(trial, translator=Asking()), workers=2, card=8.0)
    assert told.startswith("tiny: whether it fits is not known: what Asking keeps")


@pytest.mark.skipif(not (FOLDER and data_folder()), reason="RAYBRIDGE_TOKENIZERS or RAYBRIDGE_DATA is not set")
def test_full_scale_is_predicted_from_the_lengths_that_the_program_finds(monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(Path(FOLDER) / "llama31")
    model = SimpleNamespace(name="llama31", tokenizer=tokenizer, tokenize=partial(_ids, tokenizer), text=tokenizer.decode)
    monkeypatch.setattr(lengths, "model_identity", lambda name: model)
    assert lengths_of.__wrapped__(FULL.trial.evaluator, FULL.trial.target, str(data_folder())) == GSM8K


def _ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


def test_lengths_are_those_of_the_benchmark_as_the_target_reads_it(trial, target):
    lengths = lengths_of(trial.evaluator, trial.target, str(data_folder()))
    rationales = [problem.rationale for problem in trial.evaluator.problems("train")]
    naive = [len(target.tokenize(f" {rationale}")) + 1 for rationale in rationales]
    assert lengths.answer == pytest.approx(sum(naive) / len(naive), rel=0.05)
    assert lengths.new == trial.evaluator.max_new_tokens


def test_exemplars_that_are_lent_take_their_keys_and_values_and_texts_no_answers():
    lengths = replace(GSM8K, behind=5, text=58.1)
    plain, shown = (replace(footprint(64, 8), lengths=lengths, shots=shots).worker(Cut(problems=8)) for shots in (False, True))
    assert shown["exemplars"] == pytest.approx(kv_bytes(LLAMA_8B, GSM8K.exemplars) / GIB)
    apart = replace(footprint(64, 8), lengths=lengths, packs=False).worker(Cut(problems=8))
    assert shown["activations"] < apart["activations"]  # what stood before every answer is among what is lent
    assert plain["activations"] < shown["activations"]  # behind them an answer has soft tokens of its own
    half = replace(footprint(64, 8), lengths=lengths, answered=0.5).worker(Cut(problems=8))
    assert half["activations"] < plain["activations"]
    own = replace(footprint(64, 8), lengths=lengths, own_answers=True).worker(Cut(problems=8))
    assert own["logits"] > plain["logits"]  # as long as it may decode


def test_one_beginning_for_answer_and_repetition_is_counted_once_where_a_target_packs(trial):
    shared, apart = (footprint(64, 8, packs=packs)._positions(8) for packs in (True, False))
    assert apart - shared == 8 * (34 + 64 + 2)
    alone = replace(footprint(64, 8), reads=AnswerNLL.reads)
    assert alone._positions(8) == replace(alone, packs=False)._positions(8)
    assert footprint_of(trial, workers=1, cards=1, states_on_disk=True).packs
    lengths = lengths_of(trial.evaluator, trial.target, str(data_folder()))
    assert 0 < lengths.begun <= lengths.frames[0]

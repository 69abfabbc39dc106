"""What a trial takes on a card as it is predicted: against what was measured, and what is decided by it."""

from dataclasses import replace

import pytest
import tiny_lms
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig

from raybridge import HOUSE
from raybridge.data import data_folder
from raybridge.losses.next_token import AnswerNLL, Reconstruction
from raybridge.models.kv_cache import kv_bytes
from raybridge.models.memory import Member, UnpredictableError, activation_bytes, layer_bytes, weight_bytes
from raybridge.models.shape import attends_only
from raybridge.scales import FULL
from raybridge.training.footprint import GIB, Footprint, footprint_of, translator_memory
from raybridge.training.lengths import Lengths, lengths_of
from raybridge.training.memory import ENOUGH_ROWS, fit, fits, refusal, told
from raybridge.training.micro_batches import Cut

CARD = 79.0  # GiB of an 80 GB H100
SHAPE = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
MISTRAL_7B = MistralConfig(vocab_size=32768, num_key_value_heads=8, sliding_window=None, **SHAPE)
LLAMA_8B = LlamaConfig(vocab_size=128256, num_key_value_heads=8, **SHAPE)
LLAMA_70B = LlamaConfig(
    vocab_size=128256,
    hidden_size=8192,
    intermediate_size=28672,
    num_hidden_layers=80,
    num_attention_heads=64,
    num_key_value_heads=8,
)
# GSM8K's train split in the tokens of Llama 3.1 and within its chat template
GSM8K = Lengths(frames=(34, 36), answer=101.5, repetition=58.1, spread=57.9, question=208, exemplars=1340, new=256, begun=34)


def footprint(soft_tokens: int, share: int, **fields) -> Footprint:
    return Footprint(
        source=fields.pop("source", MISTRAL_7B),
        target=fields.pop("target", LLAMA_8B),
        translator=replace(FULL.trial.translator, soft_tokens=soft_tokens),
        lengths=GSM8K,
        share=share,
        reads=AnswerNLL.reads | Reconstruction.reads,
        states_on_disk=fields.pop("states_on_disk", True),
        **fields,
    )


def peak(soft_tokens: int, batch: int) -> float:
    """A worker's that holds both models and reads its batch in one pass, every beginning twice."""
    one = footprint(soft_tokens, batch, states_on_disk=False, packs=False)
    return sum(one.worker(Cut(problems=batch)).values())


@pytest.mark.parametrize(("batch", "measured"), [(8, 50.1), (16, 65.3)])
def test_a_worker_takes_what_was_measured_on_an_h100(batch, measured):
    assert peak(64, batch) == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(("soft_tokens", "batch"), [(64, 32), (512, 8)])
def test_what_ran_out_of_memory_is_predicted_to(soft_tokens, batch):
    assert peak(soft_tokens, batch) > CARD


@pytest.mark.parametrize(("config", "billions"), [(MISTRAL_7B, 7.248), (LLAMA_8B, 8.030), (LLAMA_70B, 70.554)])
def test_weights_are_those_of_the_models_cards(config, billions):
    assert weight_bytes(config) == pytest.approx(2e9 * billions, rel=1e-3)


@pytest.mark.parametrize("name", tiny_lms.TARGETS)
def test_every_target_is_counted_as_it_is_and_predicted_or_said_not_to_be(name):
    config = tiny_lms.config(name)
    assert weight_bytes(config) == 2 * sum(p.numel() for p in tiny_lms.tiny(name).model.parameters())
    one = replace(footprint(4, 4), target=config, source=config)
    try:
        found = fit(one, 80.0)
    except UnpredictableError:
        if attends_only(config):
            with pytest.raises(ValueError, match=r"not counted|only attention"):
                kv_bytes(config, 8)
    else:
        assert found is not None


def test_packed_weights_leave_embeddings_and_head_as_they_are():
    ends = 2 * 2 * LLAMA_8B.vocab_size * LLAMA_8B.hidden_size
    whole = weight_bytes(LLAMA_8B)
    norms = 2 * (2 * 32 + 1) * 4096
    packed = (whole - ends - norms) / 16
    assert weight_bytes(LLAMA_8B, bits=8) == ends + norms + 8 * packed
    assert weight_bytes(LLAMA_8B, bits=4) == pytest.approx(ends + norms + 4.127 * packed, rel=1e-4)
    tied = LlamaConfig(vocab_size=1000, hidden_size=64, num_hidden_layers=1, tie_word_embeddings=True)
    apart = LlamaConfig(vocab_size=1000, hidden_size=64, num_hidden_layers=1, tie_word_embeddings=False)
    assert weight_bytes(apart) - weight_bytes(tied) == 2 * 1000 * 64


def kept_by(config: LlamaConfig, *, layers: int, positions: int = 64) -> float:
    """Bytes that a frozen model in bf16 keeps of a position for its backward pass, counted without a number computed."""
    kept: list[torch.Tensor] = []

    def seen(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    shallow = LlamaConfig(**config.to_dict() | {"num_hidden_layers": layers, "vocab_size": 8})
    with FakeTensorMode():
        model = AutoModelForCausalLM.from_config(shallow, dtype=torch.bfloat16).requires_grad_(False)
        embeds = torch.zeros(1, positions, shallow.hidden_size, dtype=torch.bfloat16).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
            model.model(inputs_embeds=embeds, use_cache=False)
    own = {weight.untyped_storage()._cdata for weight in model.parameters()}
    sizes = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(size for storage, size in sizes.items() if storage not in own) / positions


@pytest.mark.parametrize("config", [LLAMA_8B, LLAMA_70B])
def test_a_layer_keeps_what_autograd_keeps_of_it(config):
    """transformers itself repeats keys and values for every query head, which no pass here does."""
    repeated = 2 * 2 * (config.num_attention_heads - config.num_key_value_heads) * config.head_dim
    assert kept_by(config, layers=2) - kept_by(config, layers=1) == pytest.approx(layer_bytes(config) + repeated, rel=0.01)


def test_recomputed_layers_keep_their_inputs_and_one_layer_is_there_again():
    plain, again = (activation_bytes(LLAMA_8B, 100, recomputed=recomputed) for recomputed in (False, True))
    assert plain - again == 100 * (31 * layer_bytes(LLAMA_8B) - 32 * 2 * 4096)


def test_where_a_card_is_large_recordings_have_room_before_a_replica_decodes_more_than_it_must():
    one = footprint(64, 8)
    large, small = fit(one, 139.0), fit(one, CARD)
    assert large.rows >= ENOUGH_ROWS
    assert sum(large.worker.values()) + large.recordings + sum(large.replica.values()) <= 139.0
    assert large.recordings == large.worker["activations"] > 5
    assert small.rows == ENOUGH_ROWS
    assert not one.records(Cut(problems=8, recomputed=True))
    assert not footprint(64, 8, packs=False).records(Cut(problems=8))


def test_full_scale_fits_on_four_cards_and_on_one_at_every_number_of_soft_tokens():
    for soft_tokens in (16, 64, 256, 512):
        for share in (8, 32):
            found = fit(footprint(soft_tokens, share), CARD)
            assert found is not None
            assert sum(found.worker.values()) + sum(found.replica.values()) <= CARD


def test_layers_are_recomputed_where_short_passes_do_not_fit_and_not_where_they_do():
    few, many = (fit(footprint(soft_tokens, 8), CARD) for soft_tokens in (64, 1024))
    assert few is not None
    assert many is not None
    assert few.cut == Cut(problems=8)
    assert many.cut.recomputed


@given(problems=st.integers(1, 32), soft_tokens=st.sampled_from([16, 64]))
def test_more_problems_take_more_and_recomputed_layers_less(problems, soft_tokens):
    one = footprint(soft_tokens, 32)
    cuts = (Cut(problems=problems), Cut(problems=problems, recomputed=True), Cut(problems=problems + 1))
    plain, again, more = (sum(one.worker(cut).values()) for cut in cuts)
    assert again < plain < more


def test_a_card_that_is_larger_takes_more_rows_or_longer_passes():
    small, large = (fit(footprint(64, 32), card) for card in (60.0, 140.0))
    assert small is not None
    assert large is not None
    assert small.cut.problems < large.cut.problems == 32


def test_seventy_billion_are_refused_with_what_would_make_them_fit():
    one = footprint(64, 8, target=LLAMA_70B)
    assert fit(one, CARD) is None
    why = refusal(one, CARD)
    assert "does not fit on a card of 79 GiB" in why
    assert "What would make it fit: each model over 8 cards (--gpus-per-model 8) or weights in 4 bits over 2 cards" in why
    for remedy in (replace(one, cards=8), replace(one.packed(4), cards=2), replace(one, cards=4, bits=(16, 8))):
        assert fit(remedy, CARD) is not None
    four = replace(one, cards=4)
    assert fit(four, CARD) is None
    assert "does not fit on 4 cards of 79 GiB" in refusal(four, CARD)


@given(cards=st.integers(1, 8), bits=st.sampled_from([16, 8, 4]))
def test_what_lies_on_all_cards_is_the_model(cards, bits):
    member = Member(config=LLAMA_70B, bits=bits, cards=cards)
    assert sum(member.counts) == 80
    assert sum(map(member.weights, range(cards))) == weight_bytes(LLAMA_70B, bits=bits)


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


def test_lengths_are_those_of_the_benchmark_as_the_target_reads_it(trial, target):
    lengths = lengths_of(trial.evaluator, trial.target, str(data_folder()))
    rationales = [problem.rationale for problem in trial.evaluator.problems("train")]
    naive = [len(target.tokenize(f" {rationale}")) + 1 for rationale in rationales]
    assert lengths.answer == pytest.approx(sum(naive) / len(naive), rel=0.05)
    assert lengths.new == trial.evaluator.max_new_tokens


def test_the_plan_has_a_line_a_trial_and_refuses_what_cannot_fit(trial):
    line = fits(trial, workers=2, card=8.0)
    assert line.startswith("tiny: a worker takes ")
    assert "at 4 problems a pass of the target; its replica" in line
    with pytest.raises(ValueError, match=r"trial tiny does not fit on a card of 1 GiB.*What would make it fit: smaller models"):
        fits(trial, workers=2, card=1.0)


def table() -> str:
    """The predictions as docs/PERFORMANCE.md has them."""
    rows = []
    for soft_tokens in (16, 64, 256, 512):
        one = footprint(soft_tokens, 8)
        found = fit(one, CARD)
        assert found is not None
        replicas = [sum(one.replica(found.rows, source=source).values()) for source in (False, True)]
        how = f"{found.cut.problems}{', recomputed' if found.cut.recomputed else ''}"
        sizes = [sum(found.worker.values()), *replicas]
        rows.append(f"| {soft_tokens} | {how} | {found.rows} | {' | '.join(f'{size:.1f}' for size in sizes)} |")
    return "\n".join(rows)


def larger() -> str:
    """The predictions for a target of 70B as docs/PERFORMANCE.md has them."""
    rows = []
    for bits in (16, 8, 4):
        for cards in (1, 2, 4, 8):
            one = replace(footprint(64, 8, target=LLAMA_70B), cards=cards, bits=(16, bits))
            found = fit(one, CARD)
            least = one.worker(Cut(problems=1, recomputed=True)), one.replica(16, source=True)
            parts = (found.worker, found.replica) if found else least
            sizes = " | ".join(f"{sum(part.values()):.1f}" for part in parts)
            how = f"{found.cut.problems} problems a pass, {found.rows} rows" if found else "refused"
            rows.append(f"| {'bf16' if bits == 16 else f'{bits} bits'} | {cards} | {sizes} | {how} |")
    return "\n".join(rows)


def test_the_documented_tables_are_what_is_predicted():
    documented = (HOUSE / "docs" / "PERFORMANCE.md").read_text(encoding="utf8")
    assert table() in documented
    assert larger() in documented
    for soft_tokens, batch in ((64, 8), (64, 16), (64, 32), (512, 8)):
        assert f"| {soft_tokens} | {batch} | {peak(soft_tokens, batch):.1f} |" in documented
    assert told({"models": 1.0, "logits": 0.01}) == "1.0 GiB (models 1.0)"


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

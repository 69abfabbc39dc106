"""How a trial fits on a card as it is predicted: in which cut, with how many rows, or what would make it fit."""

from dataclasses import replace

import pytest
import tiny_lms
from full_scale import CARD, LLAMA_70B, footprint, peak
from hypothesis import given
from hypothesis import strategies as st

from raybridge import HOUSE
from raybridge.models.kv_cache import kv_bytes
from raybridge.models.memory import UnpredictableError, weight_bytes
from raybridge.models.shape import attends_only
from raybridge.training.memory import ENOUGH_ROWS, fit, fits, refusal, told
from raybridge.training.micro_batches import Cut


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


def test_a_card_that_is_larger_takes_more_rows_or_longer_passes():
    small, large = (fit(footprint(64, 32), card) for card in (60.0, 140.0))
    assert small is not None
    assert large is not None
    assert small.cut.problems < large.cut.problems == 32


def test_seventy_billion_are_refused_with_what_would_make_them_fit():
    one = replace(footprint(64, 8, target=LLAMA_70B), workers=8)
    assert fit(one, CARD) is None
    why = refusal(one, CARD)
    assert "does not fit on a card of 79 GiB" in why
    assert "What would make it fit: each model over 8 cards (--gpus-per-model 8) or weights in 4 bits over 2 cards" in why
    for remedy in (one.over(8), one.over(2).packed(4), replace(one.over(4), bits=(16, 8))):
        assert (remedy.gpus, remedy.share * remedy.workers) == (8, 64)
        assert fit(remedy, CARD) is not None
    four = one.over(4)
    assert fit(four, CARD) is None
    assert "does not fit on 4 cards of 79 GiB" in refusal(four, CARD)


@given(workers=st.integers(1, 12), cards=st.sampled_from([2, 4, 8]), share=st.integers(1, 8))
def test_a_model_over_more_cards_has_fewer_workers_and_all_of_the_batch(workers, cards, share):
    one = replace(footprint(64, share), workers=workers)
    other = one.over(cards)
    assert other.gpus <= max(workers, cards)
    assert other.share * other.workers == share * workers
    assert (other.gpus > workers) == (workers < cards)


def test_more_cards_than_there_are_are_told_with_how_many_it_takes():
    assert "each model over 8 cards (--gpus 8 --gpus-per-model 8)" in refusal(
        replace(footprint(64, 8, target=LLAMA_70B), workers=4), CARD
    )


def test_what_is_offered_is_less_of_what_does_not_fit():
    one = replace(footprint(64, 2048), workers=2)
    assert one.worker(Cut(problems=1, recomputed=True))["soft tokens"] > CARD
    offered = refusal(one, CARD).partition("What would make it fit: ")[2].split(" or ")
    assert offered == ["a batch of 512 problems"]  # fewer soft tokens keep as much of the question
    assert fit(replace(one, share=256), CARD)
    assert not fit(replace(one, share=512), CARD)
    wide = replace(one, share=8, translator=replace(one.translator, width=16384, heads=64))
    assert refusal(wide, CARD).endswith("What would make it fit: a larger card, or less of what takes most (translator)")
    texts = replace(one, share=8, states_on_disk=False, answered=0.5)
    assert "states on disk" not in refusal(texts, 70.0)
    assert "the source's states on disk (--states-budget)" in refusal(replace(texts, answered=1.0), 70.0)


def test_the_plan_has_a_line_a_trial_and_refuses_what_cannot_fit(trial):
    line = fits(trial, workers=2, card=8.0)
    assert line.startswith("tiny: a worker takes ")
    assert "at 4 problems a pass of the target; its replica" in line
    help_ = r"What would make it fit: a larger card, or less of what takes most \(states\)"
    with pytest.raises(ValueError, match=rf"trial tiny does not fit on a card of 1 GiB.*{help_}"):
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

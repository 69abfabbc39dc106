"""What the log of an earlier run says, and where it is wrong."""

import re

import pytest
from earlier import LOG, run_of

from evaluators.gsm8k import GSM8K
from raybridge.evaluation.earlier.log import read_log
from raybridge.evaluation.earlier.records import read_run


@pytest.mark.parametrize("field", ["soft_tokens", "train_steps", "early_stop_patience"])
@pytest.mark.parametrize("value", ["None", "nan", "inf", "many"])
def test_an_option_that_is_no_number_is_unknown(made, field, value) -> None:
    log = LOG.format(soft_tokens=64, mode="soft_only", used=64)
    log = re.sub(rf"^{field}: .*$", f"{field}: {value}", log, flags=re.MULTILINE)
    assert read_log(made({"40": run_of("40", {0})}, log=log) / "train.log").soft_tokens == 64


def test_a_log_may_begin_with_a_byte_order_mark(made) -> None:
    folder = made({"40": run_of("40", {0})}, log="\ufeffStep 20/40 | Loss: 4.5\n")
    assert read_log(folder / "train.log").losses == {20: 4.5}


def test_64tok_in_the_name_and_2048_soft_tokens_in_the_run(made) -> None:
    recorded = read_run(made({"40": run_of("40", {0})}, name="2_stable_64tok", used=2048), GSM8K())
    assert recorded.name == "2_stable_2048tok"
    assert "it is named 64tok and ran with 2048 soft tokens" in recorded.notes
    assert "--soft_tokens 64 was resolved to 2,048 soft tokens" in recorded.notes


def test_a_run_without_a_log_says_so(made) -> None:
    recorded = read_run(made({"40": run_of("40", {0})}, log=None), GSM8K())
    assert recorded.log.soft_tokens is None
    assert any("no train.log" in note for note in recorded.notes)


def test_the_log_is_read(made) -> None:
    log = read_log(made({"40": run_of("40", {0})}) / "train.log")
    assert log.config["seed"] == "7"
    assert "log_dir" not in log.config
    assert log.accuracies == {"40": {"source": 0.5, "target": 1.0, "bridged": 0.75}}
    assert (log.soft_tokens, log.stopped, log.last_step) == (64, "finished", 40)


def test_an_ending_by_patience_is_told_apart(made) -> None:
    log = LOG.format(soft_tokens=64, mode="soft_only", used=64).replace("Step 40/40", "Step 30/40")
    folder = made(
        {"40": run_of("40", {0})},
        log=log + "[Early Stop] No improvement, patience: 1/2\n[Early Stop] No improvement, patience: 2/2\n",
    )
    assert (read_log(folder / "train.log").stopped, read_log(folder / "train.log").reason) == (
        "patience",
        "no improvement in 2 evaluations",
    )
    cut = made({"40": run_of("40", {0})}, name="cut", log=log)
    assert (read_log(cut / "train.log").stopped, read_log(cut / "train.log").reason) == (
        "unknown",
        "the log ends at step 30 of 40",
    )


def test_logged_accuracies_that_the_completions_do_not_bear_out_are_told(made) -> None:
    notes = read_run(made({"40": run_of("40", {0})}), GSM8K()).notes
    assert "eval_samples_step_40.jsonl: train.log says 0.750 for bridged, its completions say 0.125" in notes
    assert not any("for target" in note for note in notes)

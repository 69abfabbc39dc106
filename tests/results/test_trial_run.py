"""What is in the directory of one trial: metrics, evals, samples, checkpoints, the result; torn, broken and written again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opened import ENDED, Killed, eval_row, opened, sample_rows

from raybridge.results import EVAL_COLUMNS, EVAL_KEYS, Results, files


def test_metrics_come_back_in_order_and_the_last_row_of_a_step_wins(run):
    for step, loss in [(1, 3.0), (10, 2.0), (20, 1.5), (10, 2.5)]:
        run.append_metrics({"step": step, "loss": loss, "mfu": None, "gradient/answer": 0.1})
    metrics = run.metrics()
    assert metrics["step"].tolist() == [1, 10, 20]
    assert metrics["loss"].tolist() == [3.0, 2.5, 1.5]
    assert metrics["mfu"].isna().all()
    assert (run.path / "metrics.jsonl").read_bytes().count(b"\n") == 4


def test_no_metrics_and_no_evals_are_empty_tables(run):
    assert run.metrics()["step"].tolist() == []
    assert run.evals().columns.tolist() == EVAL_COLUMNS
    assert len(run.evals()) == 0
    run.truncate_metrics(5)
    assert run.metrics().empty


def test_terms_that_start_later_are_absent_before_not_zero(run):
    run.append_metrics({"step": 1, "loss/answer": 2.0})
    run.append_metrics({"step": 2, "loss/answer": 2.0, "loss/info_nce": float("nan")})
    assert run.metrics()["loss/info_nce"].isna().all()
    assert all("NaN" not in line for line in (run.path / "metrics.jsonl").read_text().splitlines())


@settings(max_examples=40)
@given(st.data())
def test_wherever_a_line_is_torn_the_whole_lines_stay_and_the_next_one_is_clean(tmp_path_factory, data):
    run = opened(tmp_path_factory.mktemp("torn"))
    for step in range(1, 4):
        run.append_metrics({"step": step, "loss": 1.0 / step, "note": "ünï"})
    path = run.path / "metrics.jsonl"
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    assert run.metrics()["step"].tolist() == [1, 2, 3][:kept]
    run.append_metrics({"step": 9})
    assert run.metrics()["step"].tolist() == [*[1, 2, 3][:kept], 9]


def test_a_torn_line_longer_than_a_block_is_cut_off_whole(run):
    run.append_metrics({"step": 1})
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "x": "' + b"y" * 10_000)
    run.append_metrics({"step": 2})
    assert run.metrics()["step"].tolist() == [1, 2]
    assert (run.path / "metrics.jsonl").read_bytes().count(b"\n") == 2


def test_a_broken_line_that_is_not_the_last_is_an_error_that_names_it(run):
    (run.path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"ste\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: not JSON"):
        run.metrics()


def test_a_resumed_trial_forgets_what_came_after_its_checkpoint(run):
    for step in (1, 10, 20, 30):
        run.append_metrics({"step": step, "loss": 0.1})
    run.truncate_metrics(20)
    assert run.metrics()["step"].tolist() == [1, 10, 20]
    run.append_metrics({"step": 30, "loss": 0.2})
    assert run.metrics()["loss"].tolist() == [0.1, 0.1, 0.1, 0.2]


def test_evals_merge_and_writing_them_again_changes_nothing(run):
    rows = [eval_row(step=step, arm=arm) for step in (250, 500) for arm in ("bridged", "shuffled")]
    run.add_evals(rows)
    once = (run.path / "evals.parquet").read_bytes()
    run.add_evals(rows[1:])
    run.add_evals([])
    assert (run.path / "evals.parquet").read_bytes() == once
    run.add_evals([eval_row(step=250, accuracy=0.9), eval_row(step=750, nll=float("nan"))])
    evals = run.evals()
    assert len(evals) == 5
    assert evals.query("step == 250 and arm == 'bridged'")["accuracy"].tolist() == [0.9]
    assert not evals.duplicated(EVAL_KEYS).any()
    assert evals["step"].is_monotonic_increasing


def test_the_order_in_which_evaluations_come_in_does_not_show_and_the_first_reading_stays_first(tmp_path):
    points = [[eval_row(step=step, reading=reading) for reading in ("strict", "flexible")] for step in (250, 500)]
    one, other = opened(tmp_path / "a"), opened(tmp_path / "b")
    one.add_evals(points[0] + points[1])
    for rows in reversed(points):
        other.add_evals(rows)
    other.add_evals(points[0][1:])
    assert (one.path / "evals.parquet").read_bytes() == (other.path / "evals.parquet").read_bytes()
    assert one.evals()["reading"].tolist() == ["strict", "flexible"] * 2


def test_later_columns_join_earlier_rows_as_missing(run):
    run.add_evals([eval_row()])
    run.add_evals([eval_row(step=500, wire_bytes=2048)])
    assert run.evals()["wire_bytes"].isna().tolist() == [True, False]
    assert run.evals()["n"].dtype == np.int64


def test_samples_keep_absent_answers_absent(run):
    frame = sample_rows(2, answer_strict=["18", None], score_strict=[1.0, 0.0])
    run.write_samples("gsm8k", "dev", 250, frame)
    run.write_samples("gsm8k", "test", 250, frame)
    assert run.samples("gsm8k", "dev", 250)["answer_strict"].isna().tolist() == [False, True]
    assert run.samples("gsm8k", "dev", 500) is None
    assert run.sampled() == [("gsm8k", "dev", 250), ("gsm8k", "test", 250)]
    assert (run.path / "samples/gsm8k/dev/step_000250.parquet").exists()


def test_ten_thousand_sample_rows_come_back(run):
    rows = 10_000
    run.write_samples("gsm8k", "test", 1500, sample_rows(rows, completion="She has 3 apples. #### 3\n" * 10))
    assert len(run.samples("gsm8k", "test", 1500)) == rows


def test_a_broken_table_is_named(run):
    run.add_evals([eval_row()])
    path = run.path / "evals.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"evals\.parquet is not a parquet table"):
        run.evals()


def test_a_flipped_bit_of_a_page_is_refused_by_the_files_name_and_is_never_another_number(run):
    texts = ["ab " * number for number in range(200)]
    rows = sample_rows(200, seconds=np.linspace(0, 1, 200), completion=texts)
    run.write_samples("gsm8k", "dev", 1, rows)
    path = run.path / "samples/gsm8k/dev/step_000001.parquet"
    whole, refusals = path.read_bytes(), []
    pages = len(whole) - pq.read_metadata(path).serialized_size - 8
    for position in range(4, pages, 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << position % 8]) + whole[position + 1 :])
        try:
            pd.testing.assert_frame_equal(run.samples("gsm8k", "dev", 1), rows, check_exact=True)
        except ValueError as error:
            refusals.append(str(error))
    assert len(refusals) > pages / 14
    assert all(refusal.startswith(f"{path} is not a parquet table (") for refusal in refusals)


def test_what_cannot_be_read_is_named(run, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    run.add_evals([eval_row()])
    monkeypatch.setattr(files.pq, "ParquetFile", refuse)
    with pytest.raises(ValueError, match=r"evals\.parquet cannot be read \(Permission denied\)"):
        run.evals()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ValueError, match=r"trial\.json cannot be read \(Permission denied\)"):
        _ = run.config


def test_a_byte_order_mark_is_no_part_of_a_file(run):
    run.append_metrics({"step": 1})
    for path in (run.path / "trial.json", run.path / "metrics.jsonl"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert run.config == {"steps": 5}
    assert run.metrics()["step"].tolist() == [1]


@pytest.mark.parametrize("content", ['{"name": "\\ud800"}', '{"a":' * 100_000, "1" * 5000])
def test_json_that_nothing_can_take_is_refused_by_the_files_name(run, content):
    (run.path / "trial.json").write_text(content)
    with pytest.raises(ValueError, match=r"trial\.json"):
        _ = run.config


def test_a_line_that_is_no_object_is_named(run):
    (run.path / "metrics.jsonl").write_bytes(b'{"step": 1}\n[2]\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: not JSON, or no object"):
        run.metrics()


def test_two_may_keep_the_rows_of_one_batch_at_once(tmp_path, monkeypatch):
    results, rows = Results(tmp_path), pd.DataFrame({"a": [1]})
    names = []
    monkeypatch.setattr("raybridge.results.store.write_frame", lambda path, frame, *, mark="": names.append(mark))
    for process in (1, 2):
        monkeypatch.setattr("os.getpid", lambda process=process: process)
        results.write_partial("one", rows)
    assert len(set(names)) == 2


def test_checkpoints_are_listed_in_order_and_kept_as_told(run):
    for step in (500, 250, 1_250_000):
        run.write_checkpoint(step, {"state.json": b"%d" % step})
    (run.path / "checkpoints/notes").mkdir()
    assert run.checkpoints() == [250, 500, 1_250_000]
    run.keep_checkpoints({250, 1_250_000, 7})
    assert run.checkpoints() == [250, 1_250_000]
    assert (run.checkpoint_path(250) / "state.json").read_bytes() == b"250"
    assert run.checkpoint_path(250).name == "step_000250"


def test_the_trap_a_half_deleted_checkpoint_that_looks_complete(run, monkeypatch):
    run.write_checkpoint(250, {"a": b"1", "b": b"2"})

    def killed(path, *args, **kwargs):
        if Path(path).exists():
            next(Path(path).iterdir()).unlink()
            raise Killed

    monkeypatch.setattr("raybridge.results.trial_run.shutil.rmtree", killed)
    with pytest.raises(Killed):
        run.keep_checkpoints(set())
    assert run.checkpoints() == []


def test_a_checkpoint_written_again_is_the_new_one(run):
    run.write_checkpoint(250, {"a": b"1", "old": b"1"})
    run.write_checkpoint(250, {"a": b"2"})
    assert {path.name: path.read_bytes() for path in run.checkpoint_path(250).iterdir()} == {"a": b"2"}
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["step_000250"]


def test_the_result_makes_a_trial_complete(run):
    assert run.result() is None
    assert not run.complete
    with pytest.raises(ValueError, match="Out of range float"):
        run.finish(ENDED | {"peak": float("nan")})
    assert not run.complete
    run.finish(ENDED | {"reason": "ünï"})
    assert run.complete
    assert run.result() == ENDED | {"reason": "ünï"}

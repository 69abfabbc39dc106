"""Rows, problems and draws: what is refused, and that the same things are drawn everywhere."""

import json
import sys
from types import SimpleNamespace

import pytest

from raybridge.data import (
    Problem,
    UnreachableError,
    check_split,
    check_unique,
    data_folder,
    draw,
    read_jsonl,
    rows,
    same_number,
)
from raybridge.data.origin import check_row


def problem(number: int) -> Problem:
    return Problem(id=f"made/{number}", question=f"What is {number}?", gold=str(number), rationale=f"It is {number}.")


@pytest.mark.parametrize("name", ["id", "question", "gold", "rationale"])
@pytest.mark.parametrize("value", ["", " \n"])
def test_a_problem_without_a_field_is_refused(name: str, value: str) -> None:
    fields = {"id": "a", "question": "b", "gold": "c", "rationale": "d"} | {name: value}
    with pytest.raises(ValueError, match=f"has no {name}"):
        Problem(**fields)


def test_a_problem_holds_text_only() -> None:
    with pytest.raises(ValueError, match="its gold must be text, not int"):
        Problem(id="a", question="b", gold=18, rationale="d")  # type: ignore[arg-type]


def test_a_broken_line_names_file_and_line(tmp_path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "a"}\n{"question": "b"\n')
    found = read_jsonl(path, ["question"])
    assert next(found) == {"question": "a"}
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2: not JSON"):
        next(found)


@pytest.mark.parametrize("name", ["made/train.jsonl", "made/train.json"])
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path, monkeypatch, name) -> None:
    (tmp_path / "made").mkdir()
    row = {"question": "ä"}
    written = json.dumps(row if name.endswith("l") else [row])
    (tmp_path / name).write_text(written + "\n", encoding="utf-8-sig")
    monkeypatch.setenv("RAYBRIDGE_DATA", str(tmp_path))
    assert [found for _, found in rows(name, ("nobody/made", None, "train"), ["question"])] == [row]


@pytest.mark.parametrize(("name", "place"), [("made/train.jsonl", "line 2"), ("made/train.json", "row 1")])
def test_half_a_character_is_refused_by_file_and_line(tmp_path, monkeypatch, name, place) -> None:
    (tmp_path / "made").mkdir()
    whole, half = {"question": "\U0001f600"}, {"question": "a", "context": [["t", ["\ud83d"]]]}
    written = [json.dumps(whole), json.dumps(half)]
    (tmp_path / name).write_text("\n".join(written) if name.endswith("l") else f"[{','.join(written)}]", encoding="utf8")
    monkeypatch.setenv("RAYBRIDGE_DATA", str(tmp_path))
    found = rows(name, ("nobody/made", None, "train"), ["question"])
    assert next(found)[1] == whole
    with pytest.raises(ValueError, match=rf"{name}, {place}: a text holds half a character \('\\ud83d'"):
        next(found)


@pytest.mark.parametrize(("name", "content"), [("made/train.jsonl", "\n"), ("made/train.json", "[]")])
def test_a_file_without_rows_is_refused(tmp_path, monkeypatch, name, content) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / name).write_text(content)
    monkeypatch.setenv("RAYBRIDGE_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=rf"{name} holds no (row|line)s"):
        list(rows(name, ("nobody/made", None, "train"), ["question"]))


def test_a_sum_of_splits_is_streamed_part_by_part(monkeypatch) -> None:
    asked = []

    def load_dataset(dataset, subset, *, split, streaming):
        asked.append(split)
        if "+" in split:
            raise ValueError("Bad split: train+test")
        return [{"question": f"{split} {n}"} for n in range(2)]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.delenv("RAYBRIDGE_DATA", raising=False)
    found = list(rows("made/all.json", ("nobody/made", None, "train+test"), ["question"]))
    assert [row["question"] for _, row in found] == ["train 0", "train 1", "test 0", "test 1"]
    assert found[2][0] == "nobody/made (train+test), row 2"
    assert asked == ["train", "test"]


def test_a_hub_that_is_out_of_reach_is_told_apart(monkeypatch) -> None:
    def load_dataset(*args, **options):
        raise ConnectionError

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.delenv("RAYBRIDGE_DATA", raising=False)
    with pytest.raises(UnreachableError, match=r"set RAYBRIDGE_DATA to a folder that has made/all\.json"):
        list(rows("made/all.json", ("nobody/made", None, "train"), []))


def test_a_relative_folder_counts_from_where_the_command_was_called(tmp_path, monkeypatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("RAYBRIDGE_DATA", "data")
    monkeypatch.setenv("RAYBRIDGE_HERE", str(tmp_path))
    assert data_folder() == tmp_path / "data"


def test_bytes_that_are_not_utf8_name_file_and_line(tmp_path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"question": "caf\xe9"}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 1: not UTF-8"):
        next(read_jsonl(path, ["question"]))


def test_a_missing_field_names_it_and_what_is_there() -> None:
    with pytest.raises(ValueError, match=r"here: no field 'answer'; the row has 'question'"):
        check_row({"question": "a"}, ["question", "answer"], "here")
    with pytest.raises(ValueError, match="here: field 'answer' is null"):
        check_row({"question": "a", "answer": None}, ["question", "answer"], "here")


def test_a_row_must_be_an_object() -> None:
    with pytest.raises(ValueError, match="must be an object, not list"):
        check_row([1], [], "here")


def test_rows_come_from_the_data_folder_and_say_where(tmp_path, monkeypatch) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "train.jsonl").write_text(json.dumps({"question": "a"}) + "\n")
    monkeypatch.setenv("RAYBRIDGE_DATA", str(tmp_path))
    assert list(rows("made/train.jsonl", ("nobody/made", None, "train"), ["question"])) == [
        (f"{tmp_path}/made/train.jsonl, line 1", {"question": "a"})
    ]


def test_a_data_folder_must_exist(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RAYBRIDGE_DATA", str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="is not a folder"):
        data_folder()


def test_two_problems_with_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="two problems have the id 'made/1'"):
        check_unique([problem(1), problem(2), problem(1)])


def test_a_draw_depends_on_ids_and_seed_alone() -> None:
    problems = [problem(number) for number in range(100)]
    drawn = draw(problems, 10, seed=3)
    assert drawn == draw(list(reversed(problems)), 10, seed=3)
    assert drawn != draw(problems, 10, seed=4)
    assert draw(problems, 20, seed=3)[:10] == drawn
    assert [p.id for p in draw(problems, 3, seed=42)] == ["made/47", "made/38", "made/15"]  # the same in every process


def test_a_draw_of_too_many_is_refused() -> None:
    with pytest.raises(ValueError, match="asked for 3 problems where there are 2"):
        draw([problem(1), problem(2)], 3, seed=0)


def test_an_unknown_split_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"math has no split 'train'; valid: test \(it was published as a test set\)"):
        check_split("train", ["test"], "math", "it was published as a test set")


@pytest.mark.parametrize(("answer", "gold"), [("18", "18"), ("18.0", "18"), ("18.", "18"), ("-3", "-3.00"), ("0", "-0")])
def test_equal_numbers(answer: str, gold: str) -> None:
    assert same_number(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [(None, "18"), ("", ""), ("NaN", "NaN"), ("sNaN", "18"), ("Infinity", "Infinity"), ("1.2.3", "1.2.3"), ("3", "-3")],
)
def test_what_is_no_number_equals_nothing(answer, gold) -> None:
    assert not same_number(answer, gold)


def test_blank_lines_end_a_file_and_stand_nowhere_else(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "a"}\n{"question": "b"}\n\n  \n', encoding="utf8")
    assert [row["question"] for row in read_jsonl(path, ["question"])] == ["a", "b"]
    path.write_text('{"question": "a"}\n\n{"question": "b"}\n', encoding="utf8")
    with pytest.raises(ValueError, match=r"rows.jsonl, line 2: blank, and rows follow"):
        list(read_jsonl(path, ["question"]))

"""Files of JSON lines: whole lines, after any interruption."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from errors import UserError
from files import append_json_line, load_json_lines


def test_lines_are_appended_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert load_json_lines(path) == []
    append_json_line(path, {"a": 1})
    with open(path, "a") as file:
        file.write('{"a": 2, "b')
    assert load_json_lines(path) == [{"a": 1}]
    append_json_line(path, {"a": 3})
    assert path.read_text() == '{"a": 1}\n{"a": 3}\n'


def append_some(path: Path, number: int) -> None:
    for place in range(20):
        append_json_line(path, {"number": number, "place": place, "filling": "x" * 5000})


def test_several_processes_append(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        list(pool.map(append_some, [path, path], [0, 1]))
    lines = load_json_lines(path)
    for number in (0, 1):
        assert [line["place"] for line in lines if line["number"] == number] == list(range(20))


@pytest.mark.parametrize("line", ["not JSON", "[1, 2]", "3", "[" * 10_000])
def test_damaged_lines(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n{{"a": 2}}\n')
    with pytest.raises(UserError, match=r"a\.jsonl is damaged: line 2 is not a JSON mapping"):
        load_json_lines(path)


def test_numbers_that_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        append_json_line(tmp_path / "a.jsonl", {"a": float("inf")})
    assert load_json_lines(tmp_path / "a.jsonl") == []

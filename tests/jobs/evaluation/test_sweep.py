"""The sweep: halves by document, the choice, and what is written."""

from pathlib import Path

import pytest
import yaml

from cluster.errors import InvalidInput
from jobs.evaluation.runs import RankedPage, Ranking, Run
from jobs.evaluation.sweep import choose_point, split_by_document, write_choice
from jobs.evaluation.truth import Truth


def test_questions_of_one_document_stay_together() -> None:
    grades = {f"{doc}-{n}": {f"{doc}:{n}": 1} for doc in "abcdefgh" for n in range(1, 4)}
    grades["both"] = {"a:9": 1, "b:9": 1}  # so a and b belong together
    first, second = split_by_document(Truth("t", grades))
    assert first | second == set(grades)
    assert not first & second
    assert abs(len(first) - len(second)) <= 7

    def half(question_id: str) -> bool:
        return question_id in first

    for doc in "abcdefgh":
        assert len({half(f"{doc}-{n}") for n in range(1, 4)}) == 1
    assert half("a-1") == half("b-1") == half("both")
    assert split_by_document(Truth("t", grades)) == (first, second)


def test_questions_about_one_document_cannot_be_split() -> None:
    with pytest.raises(InvalidInput, match="cannot be split"):
        split_by_document(Truth("t", {"a": {"d:1": 1}, "b": {"d:2": 1}}))


def test_the_best_is_chosen_and_of_equal_ones_the_first() -> None:
    def a_run(name: str, page: int) -> Run:
        return Run(name, rankings={"q": Ranking([RankedPage("d", page, "", "/d.pdf")])})

    runs = [a_run("bad", 2), a_run("good", 1), a_run("dear", 1)]
    changes = {run.name: {"rerank": run.name} for run in runs}
    sweep = choose_point(Truth("t", {"q": {"d:1": 1}}), runs, changes, 7)
    assert sweep.chosen == {"rerank": "good"}
    assert (sweep.tuned_on, sweep.reported_on) == (1, 7)
    assert [point.value for point in sweep.points] == [1, 1, 0]


def test_writing_a_choice_keeps_all_else(tmp_path: Path) -> None:
    file = tmp_path / "quire.yaml"
    choice = {"rerank": "none", "dense_weight": "0.4"}
    write_choice(choice, file)
    assert yaml.safe_load(file.read_text()) == {"rerank": "none", "dense_weight": 0.4}
    file.write_text("# ours\nrerank: auto  # for now\nrouter:\n  min_replicas: 2\nmode: text\n")
    write_choice(choice, file)
    text = file.read_text()
    assert text.startswith("# ours\nrouter:\n  min_replicas: 2\nmode: text\n")
    assert yaml.safe_load(text) == {
        "router": {"min_replicas": 2},
        "mode": "text",
        "rerank": "none",
        "dense_weight": 0.4,
    }


@pytest.mark.parametrize("text", ["- a list\n", "a: [\n", "{rerank: auto, mode: text}\n"])
def test_a_file_that_cannot_be_changed_line_by_line_is_left(tmp_path: Path, text: str) -> None:
    file = tmp_path / "quire.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=r"quire\.yaml"):
        write_choice({"rerank": "none"}, file)
    assert file.read_text() == text

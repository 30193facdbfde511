"""What stays, by the rules of retention alone; side by side with pytorch-ignite in test_side_by_side.py."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ignite_core.handlers.checkpoint.retention import Item, Kept, Retention
from ignite_core.handlers.checkpoint.scores import as_number, as_python_number

SCORES = st.lists(st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1.0, math.nan, math.inf, -math.inf, 2]), st.floats()))


def run(retention: Retention, scores: list[float | None]) -> tuple[Kept, list[int]]:
    """What stays in the end, and which were saved."""
    kept, saved = Kept(), []
    for number, score in enumerate(scores):
        if retention.wants(kept, score):
            kept, _ = retention.after(kept, Item(score, str(number)))
            saved.append(number)
    return kept, saved


@given(SCORES, st.integers(1, 4))
def test_the_best_are_the_finite_scores_that_are_highest(scores: list[float | None], n_saved: int) -> None:
    kept, _ = run(Retention(n_saved), scores)
    finite = [score for score in scores if score is not None and math.isfinite(score)]

    assert [item.priority for item in kept.best] == sorted(finite)[-n_saved:]


def test_one_that_is_as_good_as_the_least_of_the_best_is_not_saved() -> None:
    assert run(Retention(n_saved=2), [0.5, 0.7, 0.5, 0.7, 0.6])[1] == [0, 1, 3]


@given(SCORES, st.integers(1, 4))
def test_of_equal_scores_the_latest_stays_if_asked_for(scores: list[float | None], n_saved: int) -> None:
    kept, _ = run(Retention(n_saved, greater_or_equal=True), scores)
    finite = [(score, number) for number, score in enumerate(scores) if score is not None and math.isfinite(score)]

    assert {item.filename for item in kept.best} == {str(number) for _, number in sorted(finite)[-n_saved:]}


@given(SCORES, st.integers(1, 3), st.integers(1, 3))
def test_best_and_last_are_kept_at_once(scores: list[float | None], n_saved: int, keep_last: int) -> None:
    kept, saved = run(Retention(n_saved, keep_last), scores)
    best_alone, _ = run(Retention(n_saved), scores)

    assert saved == list(range(len(scores)))
    assert [item.filename for item in kept.last] == [str(number) for number in saved[-keep_last:]]
    assert [item.filename for item in kept.best] == [item.filename for item in best_alone.best]


@given(SCORES, st.one_of(st.none(), st.integers(1, 3)), st.one_of(st.none(), st.integers(1, 3)))
def test_what_is_removed_is_what_stood_and_stays_no_longer(
    scores: list[float | None], n_saved: int | None, keep_last: int | None
) -> None:
    retention, kept, on_disk = Retention(n_saved, keep_last), Kept(), set()
    for number, score in enumerate(scores):
        if retention.wants(kept, score):
            kept, removed = retention.after(kept, Item(score, str(number)))
            on_disk = (on_disk | {str(number)}) - set(removed)
            assert str(number) not in removed
        assert on_disk == set(kept.filenames)


def test_an_overwritten_name_stands_once_with_its_new_score() -> None:
    retention = Retention(n_saved=2)
    kept, removed = retention.of([Item(0.9, "best.pt"), Item(0.5, "other.pt"), Item(0.7, "best.pt")])

    assert kept.best == (Item(0.5, "other.pt"), Item(0.7, "best.pt"))
    assert removed == []


def test_a_name_that_is_overwritten_by_one_without_a_score_is_no_longer_among_the_best() -> None:
    kept, removed = Retention(n_saved=1, keep_last=1).of([Item(0.9, "a.pt"), Item(math.nan, "a.pt")])

    assert kept == Kept((), (Item(kept.last[0].priority, "a.pt"),))
    assert removed == []


def test_items_that_would_not_stay_are_told_when_taken_over() -> None:
    kept, removed = Retention(n_saved=1).of([Item(1, "1.pt"), Item(3, "3.pt"), Item(2, "2.pt")])

    assert (kept.filenames, removed) == (["3.pt"], ["1.pt", "2.pt"])


@pytest.mark.parametrize("number", [0, -1, 1.0, True])
def test_a_number_that_keeps_nothing_is_refused(number: object) -> None:
    with pytest.raises(ValueError, match=f"n_saved must be a positive integer or None, got {number}"):
        Retention(n_saved=number)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="keep_last must be a positive integer"):
        Retention(keep_last=number)  # type: ignore[arg-type]


def test_scores_become_numbers_of_python() -> None:
    numpy = pytest.importorskip("numpy")
    torch = pytest.importorskip("torch")

    assert [
        type(as_python_number(as_number(value, "s"))) for value in (numpy.float32(1), numpy.int64(1), torch.tensor(1.5))
    ] == [
        float,
        int,
        float,
    ]
    assert as_number(None, "s") is None
    with pytest.raises(ValueError, match="score_function must give a number, got 'x' of type str"):
        as_number("x", "score_function")

"""File names, side by side with pytorch-ignite 0.5.5."""

import itertools

import pytest

from ignite_core.handlers import Checkpoint
from ignite_core.handlers.checkpoint.names import Naming, object_name

theirs = pytest.importorskip("ignite.handlers")


@pytest.mark.parametrize("parts", list(itertools.product([True, False], repeat=4)))
def test_the_pattern_of_each_choice_of_parts_is_that_of_pytorch_ignite(parts: tuple[bool, ...]) -> None:
    try:
        expected = theirs.Checkpoint.setup_filename_pattern(*parts)
    except ValueError:
        with pytest.raises(ValueError, match="setup_filename_pattern"):
            Checkpoint.setup_filename_pattern(*parts)
    else:
        assert Checkpoint.setup_filename_pattern(*parts) == expected


@pytest.mark.parametrize(
    ("naming", "arguments", "expected"),
    [
        (Naming(), ("model", 12), "model_12.pt"),
        (Naming("best"), ("checkpoint", 12), "best_checkpoint_12.pt"),
        (Naming(has_score=True), ("model", None, 0.123456), "model_0.1235.pt"),
        (Naming(has_score=True), ("model", None, 3), "model_3.pt"),
        (Naming(has_score=True, score_name="loss"), ("model", 7, -0.5), "model_7_loss=-0.5000.pt"),
        (Naming(has_score=True, score_name="loss"), ("model", 7, None), "model_7_loss=none.pt"),
        (Naming(has_score=True, score_name="loss"), ("model", 7, float("nan")), "model_7_loss=nan.pt"),
        (Naming("p", True, "a", "{global_step}-{name}-{score}.{ext}"), ("model", 7, 94), "7-model-94.pt"),
        (Naming("p", pattern="latest.pt"), ("model", 7, 94), "latest.pt"),
    ],
)
def test_a_name_has_the_parts_it_was_given(naming: Naming, arguments: tuple[object, ...], expected: str) -> None:
    assert naming.filename(*arguments) == expected  # type: ignore[arg-type]


def test_a_pattern_with_an_unknown_part_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"got '\{name\}_\{epoch\}.pt' with \['epoch'\]"):
        Naming(pattern="{name}_{epoch}.pt")
    with pytest.raises(TypeError, match="got int"):
        Naming(pattern=3)  # type: ignore[arg-type]


def test_several_objects_are_called_checkpoint() -> None:
    assert object_name(["model"]) == "model"
    assert object_name(["model", "optimizer"]) == "checkpoint"
    assert Naming("best").basename("model") == "best_model"

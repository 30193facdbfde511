"""R6: all objects are loaded or none; whatever is wrong, they are as they were."""

import copy
import itertools
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ignite_core.engine import Engine
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers import Checkpoint
from ignite_core.handlers.checkpoint import restore as sources_of_restoring
from ignite_core.handlers.checkpoint.restore import Restoring
from ignite_core.handlers.checkpoint.storage.commit import remove
from ignite_core.metrics import Accuracy
from tests.handlers.checkpoint.comparing import same

sources = sources_of_restoring.__file__


class Counter:
    """An object that looks at what it is given only while it takes it."""

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self.tensor = torch.zeros(2)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "tensor": self.tensor}

    def load_state_dict(self, state_dict: Any) -> None:
        self.tensor = state_dict["tensor"]
        self.value = state_dict["value"] + 0  # a str fails here, half way


def build() -> dict[str, Any]:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(2):
        model(torch.randn(4, 2)).sum().backward()
        optimizer.step()
    accuracy = Accuracy()
    accuracy.update((torch.eye(2), torch.randint(2, (2,))))
    trainer = Engine(lambda engine, batch: None)
    trainer.run(range(int(torch.randint(1, 100, ()))))
    return {
        "model": model,
        "optimizer": optimizer,
        "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1),
        "accuracy": accuracy,
        "counter": Counter(int(torch.randint(100, ()))),
        "trainer": trainer,
    }


def states(objects: dict[str, Any]) -> dict[str, Any]:
    return {name: copy.deepcopy(obj.state_dict()) for name, obj in objects.items()}


def break_it(saved: dict[str, Any], how: str) -> dict[str, Any]:
    """A checkpoint with one thing wrong."""
    changes: dict[str, Any] = {
        "a key is missing": lambda: saved["model"].pop("0.weight"),
        "a key too many": lambda: saved["model"].update(extra=torch.ones(1)),
        "another shape": lambda: saved["model"].update({"2.weight": torch.ones(1, 7)}),
        "no tensor": lambda: saved["model"].update({"2.weight": 3.0}),
        "no mapping": lambda: saved.update(model=[1, 2]),
        "batch norm cut": lambda: saved["model"].update({"1.running_mean": torch.ones(5)}),
        "an object is missing": lambda: saved.pop("counter"),
        "groups of the optimizer": lambda: saved["optimizer"]["param_groups"].append({"params": []}),
        "states of the metric": lambda: saved["accuracy"].clear(),
        "an object that fails half way": lambda: saved["counter"].update(value="x"),
        "the engine": lambda: saved["trainer"].pop("epoch_length"),
        "numbers of the engine": lambda: saved["trainer"].update(iteration=-1),
    }
    changes[how]()
    return saved


HOWS = [
    "a key is missing",
    "a key too many",
    "another shape",
    "no tensor",
    "no mapping",
    "batch norm cut",
    "an object is missing",
    "groups of the optimizer",
    "states of the metric",
    "an object that fails half way",
    "the engine",
    "numbers of the engine",
]


def test_everything_is_loaded() -> None:
    source, target = build(), build()
    Checkpoint.load_objects(target, states(source))

    assert same(states(target), states(source))


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("order", ["as built", "reversed"])
def test_if_one_thing_is_wrong_nothing_is_changed(how: str, order: str) -> None:
    source, target = build(), build()
    if order == "reversed":
        target = dict(reversed(target.items()))
    before = states(target)
    with pytest.raises(CheckpointError):
        Checkpoint.load_objects(target, break_it(states(source), how))

    assert same(states(target), before)
    Checkpoint.load_objects(target, states(source))  # and they still work
    assert same(states(target)["model"], states(source)["model"])


def test_the_message_names_object_and_key_and_what_is_wrong() -> None:
    target = {"net": nn.Linear(2, 1)}
    with pytest.raises(
        CheckpointError,
        match=r"net: bias is missing; net: other is not known; net: weight has shape \(3,\), and the module's is",
    ):
        Checkpoint.load_objects(target, {"net": {"weight": torch.ones(3), "other": torch.ones(1)}})


def test_a_module_that_fails_in_a_custom_way_is_restored() -> None:
    class Own(nn.Linear):
        def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
            super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
            raise RuntimeError("too late")

    target = {"first": nn.Linear(1, 1), "own": Own(1, 1)}
    before = {name: copy.deepcopy(obj.state_dict()) for name, obj in target.items()}
    with pytest.raises(CheckpointError, match=r"'own', a Own, does not accept its saved state: RuntimeError: too late"):
        Checkpoint.load_objects(target, {"first": nn.Linear(1, 1).state_dict(), "own": nn.Linear(1, 1).state_dict()})

    assert same({name: obj.state_dict() for name, obj in target.items()}, before)


def test_an_old_batch_norm_without_its_counter_is_loaded_as_torch_does() -> None:
    source, target = nn.Sequential(nn.BatchNorm1d(2)), nn.Sequential(nn.BatchNorm1d(2))
    saved = OrderedDict((key, value) for key, value in source.state_dict().items() if "num_batches" not in key)
    Checkpoint.load_objects({"model": target}, {"model": saved})

    assert target[0].num_batches_tracked == 0


def test_modules_that_are_lazy_take_the_shape_that_was_saved() -> None:
    source, target = nn.Linear(3, 2), nn.LazyLinear(2)
    Checkpoint.load_objects({"model": target}, {"model": source.state_dict()})

    assert torch.equal(target.weight, source.weight)


def test_not_strict_takes_what_fits_by_name_but_no_other_shape() -> None:
    source, target = nn.Sequential(nn.Linear(1, 1)), nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    Checkpoint.load_objects({"model": target}, {"model": source.state_dict()}, strict=False)
    assert torch.equal(target[0].weight, source[0].weight)

    with pytest.raises(CheckpointError, match=r"0.weight has shape \(2, 1\)"):
        Checkpoint.load_objects({"model": target}, {"model": {"0.weight": torch.ones(2, 1)}}, strict=False)


def test_assign_is_handed_to_modules() -> None:
    target = nn.Linear(1, 1)
    saved = {"weight": torch.ones(1, 1, dtype=torch.float64), "bias": torch.ones(1, dtype=torch.float64)}
    Checkpoint.load_objects({"model": target}, {"model": saved}, assign=True)

    assert target.weight.dtype is torch.float64


def test_a_bare_state_whose_key_is_the_name_of_the_object_is_bare() -> None:
    target = nn.Linear(1, 1)
    Checkpoint.load_objects({"weight": target}, {"weight": torch.full((1, 1), 7.0), "bias": torch.zeros(1)})

    assert target.weight.item() == 7


def test_a_part_of_what_was_saved_may_be_loaded_and_what_is_missing_is_said() -> None:
    source, target = build(), build()
    Checkpoint.load_objects({"model": target["model"]}, states(source))
    assert same(states(target)["model"], states(source)["model"])

    with pytest.raises(CheckpointError, match=r"it contains no state of 'ema', only of \['model', 'optimizer'"):
        Checkpoint.load_objects({"ema": nn.Linear(1, 1), "model": target["model"]}, states(source))


def test_nothing_of_what_was_loaded_lies_in_the_file(tmp_path: Path) -> None:
    """A file that is mapped must not be needed any more when retention deletes it."""
    source, target = build(), build()
    path = tmp_path / "checkpoint_0.pt"
    trainer = Engine(lambda engine, batch: None)
    Checkpoint(source, tmp_path)(trainer)
    Checkpoint.load_objects(target, path)
    held = states(target)
    with open(path, "r+b") as file:
        file.write(b"\0" * path.stat().st_size)
    remove(path)

    assert same(states(target), held)
    assert same(states(target), states(source))


@pytest.mark.parametrize("checkpoint", [3, [1], None])
def test_what_is_neither_path_nor_mapping_is_refused(checkpoint: Any) -> None:
    with pytest.raises(TypeError, match="checkpoint must be a path or a mapping of names to states"):
        Checkpoint.load_objects({"model": nn.Linear(1, 1)}, checkpoint)


class Interrupted(Counter):
    """Ctrl-C is pressed while it takes its state."""

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        raise KeyboardInterrupt


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupted_while_something_is_loaded_all_objects_are_as_they_were(kind: type[BaseException]) -> None:
    class Slow(nn.Linear):
        def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
            super()._load_from_state_dict(*args, **kwargs)
            raise kind

    objects = {**build(), "slow": Slow(2, 1), "interrupted": Interrupted()}
    saved, before = states({**build(), "slow": nn.Linear(2, 1), "interrupted": Counter(1)}), states(objects)
    with pytest.raises((kind, KeyboardInterrupt)) as caught:
        Checkpoint.load_objects(objects, saved)

    assert same(states(objects), before)
    assert "All objects were left as they were" in caught.value.__notes__[0]


def test_interrupted_while_models_are_loaded_that_fit_all_of_them_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are loaded last, and no copy of them was taken: so the objects hold the checkpoint, not a half of it."""
    objects, saved = build(), states(build())
    load, pressed = nn.Module.load_state_dict, iter([True])

    def press(module: nn.Module, *args: Any, **options: Any) -> Any:
        load(module, *args, **options)
        if next(pressed, False):
            raise KeyboardInterrupt

    monkeypatch.setattr(nn.Module, "load_state_dict", press)
    press.__module__ = "torch.nn"
    with pytest.raises(KeyboardInterrupt):
        Checkpoint.load_objects(objects, saved)

    assert same(states(objects), saved)


@pytest.mark.parametrize("names", [("model", "optimizer", "counter", "trainer"), ("model",), ("counter",)])
def test_interrupted_at_any_line_the_objects_are_as_they_were_or_all_loaded(names: tuple[str, ...]) -> None:
    lines = range(10_000)
    for number in lines:
        objects, given = build(), build()
        objects, saved = ({name: one[name] for name in names} for one in (objects, given))
        restoring = Restoring(objects, states(saved), "test")
        before, left = states(objects), itertools.count()

        def trace(frame: Any, event: str, _: Any, number: int = number, left: Any = left) -> Any:
            if frame.f_code.co_filename != sources:
                return None
            if event == "line" and frame.f_code.co_name != "roll_back" and next(left) == number:
                raise KeyboardInterrupt
            return trace

        tracing = sys.gettrace()
        sys.settrace(trace)
        try:
            restoring.load()
        except KeyboardInterrupt:
            sys.settrace(tracing)
            assert same(states(objects), before) or same(states(objects), states(saved)), number
        else:
            break
        finally:
            sys.settrace(tracing)
    assert number > 4  # it was interrupted at some


class OnlyLoads:
    """What other programs load into: it cannot say what it holds."""

    state: Any = None

    def load_state_dict(self, state_dict: Any) -> None:
        if state_dict == "wrong":
            raise ValueError("wrong")
        self.state = state_dict


def test_what_has_only_load_state_dict_is_loaded_last() -> None:
    one, two, counter = OnlyLoads(), OnlyLoads(), Counter()
    Checkpoint.load_objects({"one": one}, {"one": {"a": 1}})
    with pytest.raises(CheckpointError, match=r"'counter', a Counter, does not accept"):
        Checkpoint.load_objects({"one": one, "counter": counter}, {"one": 2, "counter": {"value": "x", "tensor": 0}})
    assert (one.state, counter.value) == ({"a": 1}, 0)

    with pytest.raises(CheckpointError, match=r"left as they were, but for 'two'.*no state_dict\(\).*but for 'one'"):
        Checkpoint.load_objects(
            {"one": one, "two": two, "counter": counter},
            {"one": 3, "two": "wrong", "counter": {"value": 1, "tensor": torch.ones(2)}},
        )
    assert (one.state, counter.value) == (3, 0)

"""Estimators whose module an engine trains: what they are given, what they remember, and where they fit in."""

from __future__ import annotations

import copy
import importlib
import pickle
import random
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris, make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor, nn

import ignite_contrib.sklearn
from ignite_contrib.sklearn import EngineClassifier, EngineRegressor
from ignite_core.engine import Engine, Events
from ignite_core.handlers import EarlyStopping, TerminateOnNan


class Net(nn.Sequential):
    def __init__(self, n_features: int, n_outputs: int, units: int = 8, dropout: float = 0.0) -> None:
        hidden = nn.Sequential(nn.Linear(n_features, units), nn.ReLU(), nn.Dropout(dropout))
        super().__init__(*hidden, nn.Linear(units, n_outputs))


class TwoInputs(nn.Module):
    """Words by their numbers, and a number beside."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.linear = nn.Linear(5, n_outputs)

    def forward(self, word: Tensor, number: Tensor) -> Tensor:
        out: Tensor = self.linear(torch.cat([self.embedding(word), number], dim=1))
        return out


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def two_moons() -> tuple[Any, Any]:
    X, y = make_classification(60, 4, n_informative=4, n_redundant=0, random_state=0)
    return X.astype(np.float32), y


def classifier(module: Any = Net, **params: Any) -> EngineClassifier:
    return EngineClassifier(module, **{"max_epochs": 3, "batch_size": 16, "random_state": 0, **params})


def regressor(module: Any = Net, **params: Any) -> EngineRegressor:
    return EngineRegressor(module, **{"max_epochs": 3, "batch_size": 16, "random_state": 0, **params})


def weights(estimator: Any) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in estimator.module_.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# --------------------------------------------------------------------------------------------------------- what goes in


def as_frame(X: Any) -> pd.DataFrame:
    return pd.DataFrame(X, columns=list("abcd"))


@pytest.mark.parametrize(
    ("of_x", "of_y"),
    [
        (np.float64, np.array),
        (lambda X: X.tolist(), list),
        (as_frame, pd.Series),
        (torch.tensor, torch.tensor),
        (lambda X: torch.tensor(X, dtype=torch.float64), torch.tensor),
        (lambda X: {"input": X}, np.array),
        (lambda X: {"input": torch.tensor(X)}, np.array),
        (lambda X: {"input": as_frame(X)}, np.array),
    ],
    ids=[
        "float64",
        "lists",
        "pandas",
        "tensor",
        "float64 tensor",
        "mapping",
        "mapping of tensors",
        "mapping of tables",
    ],
)
@pytest.mark.parametrize("kind", [classifier, regressor])
def test_what_the_data_comes_in_makes_no_difference(
    kind: Any, of_x: Any, of_y: Any, two_moons: tuple[Any, Any]
) -> None:
    X, y = two_moons
    plain = kind(module__n_features=4).fit(X, y)
    estimator = kind(module__n_features=4).fit(of_x(X), of_y(y))

    assert same(weights(estimator), weights(plain))
    assert np.array_equal(estimator.predict(of_x(X)), plain.predict(X))
    assert estimator.score(of_x(X), of_y(y)) == plain.score(X, y)
    assert same(weights(kind(module__n_features=4).partial_fit(of_x(X), of_y(y))), weights(plain)) is False


def test_features_and_their_names_are_noted_and_compared(two_moons: tuple[Any, Any]) -> None:
    X, y = two_moons
    estimator = classifier().fit(as_frame(X), y)

    assert estimator.n_features_in_ == 4
    assert estimator.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(as_frame(X)[["b", "a", "c", "d"]])
    with pytest.raises(ValueError, match="X has 3 features, but EngineClassifier is expecting 4"):
        classifier().fit(X, y).predict(torch.tensor(X[:, :3]))


def test_entries_of_a_mapping_are_arguments_of_the_module_and_whole_numbers_stay_whole() -> None:
    words = np.random.RandomState(0).randint(0, 10, 200)
    X = {"word": words, "number": (words[:, None] > 4).astype(float)}
    estimator = classifier(TwoInputs, max_epochs=30, optimizer__lr=0.05).fit(X, words % 2)

    assert estimator.score(X, words % 2) == 1.0
    assert not hasattr(estimator, "n_features_in_")
    shuffled = {"number": X["number"][::-1].copy(), "word": words[::-1].copy()}
    assert np.array_equal(estimator.predict(shuffled), estimator.predict(X)[::-1])


def test_samples_may_have_any_number_of_dimensions() -> None:
    X = np.random.RandomState(0).rand(20, 1, 4, 4)

    def module(n_features: int, n_outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(n_features, 2, 3), nn.Flatten(), nn.Linear(8, n_outputs))

    estimator = classifier(module).fit(X, np.arange(20) % 3)

    assert estimator.predict_proba(X).shape == (20, 3)
    assert estimator.n_features_in_ == 1


@pytest.mark.parametrize(
    "labels",
    [["no", "yes", "maybe"], [-1, 0, 7], [False, True, True], [0.0, 2.0, 1.0]],
    ids=["words", "ints", "bools", "floats"],
)
def test_labels_of_any_kind_come_back_as_they_went_in(labels: list[Any]) -> None:
    X, y = load_iris(return_X_y=True)
    named = np.array(labels)[y]
    estimator = classifier(module__units=16, batch_size=150, max_epochs=80, optimizer__lr=0.05).fit(X, named)

    assert estimator.classes_.tolist() == sorted(set(labels))
    assert estimator.predict(X).dtype == named.dtype
    assert estimator.score(X, named) > 0.9
    assert np.array_equal(estimator.classes_[estimator.predict_proba(X).argmax(1)], estimator.predict(X))
    assert np.allclose(estimator.predict_proba(X).sum(1), 1)


@pytest.mark.parametrize(
    "module", [Net, lambda n_features, n_outputs: nn.Sequential(Net(n_features, 1), nn.Flatten(0))]
)
def test_a_regressor_of_one_target_may_give_a_column_or_a_row(module: Any) -> None:
    """And learns what linear regression finds; a target that is broadcast against a column would not."""
    X = np.random.RandomState(0).randn(100, 3)
    y = X @ [1.0, -2.0, 0.5] + 3
    estimator = regressor(module, max_epochs=100, optimizer__lr=0.03).fit(X, y)

    assert estimator.predict(X).shape == (100,)
    assert estimator.score(X, y) > 0.98


def test_a_regressor_learns_several_targets_as_linear_regression_does() -> None:
    X = np.random.RandomState(0).randn(100, 3)
    y = X @ np.random.RandomState(1).randn(3, 2) + [1.0, 2.0]
    ours = EngineRegressor(
        lambda n_features, n_outputs: nn.Linear(n_features, n_outputs),
        max_epochs=200,
        optimizer__lr=0.05,
        random_state=0,
    ).fit(X, y)

    assert np.allclose(ours.predict(X), LinearRegression().fit(X, y).predict(X), atol=1e-2)


def test_a_sample_of_weight_zero_is_as_if_it_were_not_there() -> None:
    """In batches that hold everything; the labels of the second half are wrong."""
    X, y = load_iris(return_X_y=True)
    X, y = np.tile(X, (2, 1)), np.concatenate([y, np.roll(y, 50)])
    weight = np.repeat([2.0, 0.0], 150)
    weighted = classifier(max_epochs=60, batch_size=300, optimizer__lr=0.05).fit(X, y, sample_weight=weight)
    short = classifier(max_epochs=60, batch_size=300, optimizer__lr=0.05).fit(X[:150], y[:150])

    assert np.allclose(weighted.predict_proba(X), short.predict_proba(X), atol=1e-3)
    assert weighted.score(X, y, sample_weight=weight) > 0.9
    assert weighted.score(X, y) < 0.6


CRITERIA = [
    {"criterion__weight": torch.tensor([1.0, 20.0])},
    {"criterion__ignore_index": 0},
    {"criterion__weight": torch.tensor([3.0, 0.5]), "criterion__label_smoothing": 0.1},
    {"criterion": nn.MultiMarginLoss, "criterion__weight": torch.tensor([1.0, 20.0])},
]


@pytest.mark.parametrize("criterion", CRITERIA, ids=str)
def test_weights_of_one_are_none_whatever_the_criterion_divides_by(criterion: Any, two_moons: tuple[Any, Any]) -> None:
    X, y = two_moons
    net = classifier(**criterion, optimizer=torch.optim.SGD, optimizer__lr=0.05, batch_size=16)
    without = net.fit(X, y).predict_proba(X)

    for weight in (1.0, 5.0):
        assert np.allclose(net.fit(X, y, sample_weight=np.full(len(y), weight)).predict_proba(X), without, atol=1e-5)


@pytest.mark.parametrize("criterion", CRITERIA, ids=str)
def test_a_sample_of_weight_zero_is_as_if_it_were_not_there_with_weights_of_classes_too(
    criterion: Any, two_moons: tuple[Any, Any]
) -> None:
    X, y = two_moons
    weight = np.where(np.arange(len(y)) % 3, 1.0, 0.0)
    net = classifier(**criterion, optimizer=torch.optim.SGD, optimizer__lr=0.05, batch_size=len(y))
    without = net.fit(X[weight > 0], y[weight > 0]).predict_proba(X)

    assert np.allclose(net.fit(X, y, sample_weight=weight).predict_proba(X), without, atol=1e-4)


def test_weights_count_by_their_shares_also_for_several_targets() -> None:
    X = np.zeros((8, 1), dtype=np.float32)
    y = np.stack([np.repeat([0.0, 4.0], 4), np.repeat([8.0, 0.0], 4)], axis=1)
    estimator = regressor(max_epochs=200, optimizer__lr=0.1).fit(X, y, sample_weight=np.repeat([3.0, 1.0], 4))

    assert np.allclose(estimator.predict(X[:1]), [[1.0, 6.0]], atol=1e-2)


# -------------------------------------------------------------------------------------------------- what repeats itself


def test_fit_repeats_itself_from_the_same_random_state_and_leaves_the_global_generators_alone(
    two_moons: tuple[Any, Any],
) -> None:
    """Twice on one object, on a clone, after anything was drawn; with dropout, shuffling and samples held out."""
    X, y = two_moons
    estimator = classifier(module__dropout=0.5, validation_fraction=0.2)
    first = weights(estimator.fit(X, y))
    torch.rand(3), np.random.rand(3), random.random()
    assert same(weights(estimator.fit(X, y)), first)
    assert same(weights(clone(estimator).fit(X, y)), first)
    assert not same(weights(clone(estimator).set_params(random_state=1).fit(X, y)), first)

    def draw() -> list[Any]:
        return [torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()]

    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    expected = draw()
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])
    estimator.fit(X, y)
    estimator.partial_fit(X, y)
    estimator.predict(X)
    assert draw() == expected


def test_without_a_random_state_numpy_decides_as_everywhere_in_scikit_learn(two_moons: tuple[Any, Any]) -> None:
    estimator = classifier(random_state=None)
    np.random.seed(3)
    first, second = weights(estimator.fit(*two_moons)), weights(estimator.fit(*two_moons))
    np.random.seed(3)

    assert not same(first, second)
    assert same(weights(estimator.fit(*two_moons)), first)


def test_partial_fit_is_one_epoch_more_of_what_fit_does(two_moons: tuple[Any, Any]) -> None:
    X, y = two_moons
    estimator = classifier()
    for _ in range(3):
        estimator.partial_fit(X, y)
    one_epoch = classifier(max_epochs=1).fit(X, y)

    assert [line["epoch"] for line in estimator.history_] == [1, 2, 3]
    assert estimator.history_[0] == one_epoch.history_[0]
    assert estimator.history_[2]["train_loss"] < estimator.history_[0]["train_loss"]
    assert not same(weights(estimator), weights(classifier().fit(X, y))), "each call shuffles anew, with its own seed"


def test_partial_fit_keeps_the_classes_that_it_was_told_first(two_moons: tuple[Any, Any]) -> None:
    X, _ = two_moons
    estimator = classifier().partial_fit(X, np.full(60, "b"), classes=["c", "b", "a"])
    estimator.partial_fit(X, np.full(60, "c"))

    assert estimator.predict_proba(X).shape == (60, 3)
    with pytest.raises(
        ValueError, match=r"among the classes \['a' 'b' 'c'\], got also \['x'\]; give all of them to the"
    ):
        estimator.partial_fit(X, np.full(60, "x"))
    with pytest.raises(ValueError, match=r"classes must be those of the first call, \['a' 'b' 'c'\], got \['a' 'x'\]"):
        estimator.partial_fit(X, np.full(60, "a"), classes=["a", "x"])


def test_a_warm_start_goes_on_where_the_last_fit_ended(two_moons: tuple[Any, Any]) -> None:
    warm = classifier(warm_start=True, max_epochs=2).fit(*two_moons)
    first = weights(warm)
    warm.set_params(max_epochs=3).fit(*two_moons)

    assert [line["epoch"] for line in warm.history_] == [1, 2, 3, 4, 5]
    assert warm.history_[2]["train_loss"] < warm.history_[0]["train_loss"]
    assert same(weights(classifier(max_epochs=2).fit(*two_moons)), first)
    assert len(warm.set_params(warm_start=False).fit(*two_moons).history_) == 3


@pytest.mark.parametrize(
    "copied", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy], ids=["pickle", "deepcopy"]
)
def test_a_copy_predicts_and_learns_on_as_the_original_does(copied: Any, two_moons: tuple[Any, Any]) -> None:
    """The optimizer of the copy is that of its own module, with what it has gathered."""
    X, y = two_moons
    stop = {
        "handlers": {"stop": EarlyStopping},
        "handlers__stop__patience": 2,
        "handlers__stop__score_function": "accuracy",
    }
    original = classifier(module__dropout=0.2, **stop).fit(X, y)
    other = copied(original)

    assert np.array_equal(other.predict_proba(X), original.predict_proba(X))
    learnt = weights(original.partial_fit(X, y))
    torch.rand(3), np.random.rand(3), random.random()  # which has no part in it
    assert same(weights(other.partial_fit(X, y)), learnt)
    assert not same(weights(other), weights(copied(original).partial_fit(X, y)))


# ----------------------------------------------------------------------------------------------------------- parameters


def test_parameters_of_parts_are_those_of_the_estimator() -> None:
    estimator = classifier(module__units=5, optimizer__lr=0.1)

    assert {"module__units": 5, "optimizer__lr": 0.1, "max_epochs": 3}.items() <= estimator.get_params().items()
    assert clone(estimator).get_params() == estimator.get_params()
    assert "module__units=5" in repr(estimator)
    changed = clone(estimator).set_params(module__units=6, module__dropout=0.5, max_epochs=4)
    assert estimator.get_params()["module__units"] == 5
    params = changed.get_params()
    assert (params["module__units"], params["module__dropout"], params["max_epochs"]) == (6, 0.5, 4)


def test_each_part_is_made_with_its_parameters(two_moons: tuple[Any, Any]) -> None:
    X, y = two_moons
    estimator = classifier(
        module__units=5,
        optimizer=torch.optim.SGD,
        optimizer__lr=0.25,
        optimizer__momentum=0.5,
        criterion=nn.NLLLoss,
        criterion__weight=torch.tensor([0.0, 1.0]),
        max_epochs=20,
    ).fit(X, y)

    assert weights(estimator)[0].shape == (5, 4)
    assert estimator.optimizer_.param_groups[0]["lr"] == 0.25
    assert estimator.optimizer_.param_groups[0]["momentum"] == 0.5
    assert set(estimator.predict(X)) == {1}, "only that class counts"


def test_a_grid_search_reaches_module_optimizer_and_handlers_inside_a_pipeline() -> None:
    X, y = load_iris(return_X_y=True, as_frame=True)
    net = classifier(
        max_epochs=12,
        handlers={"stop": EarlyStopping},
        handlers__stop__score_function="accuracy",
        handlers__stop__patience=1,
        validation_fraction=0.2,
    )
    grid = {
        "net__module__units": [2, 16],
        "net__optimizer__lr": [1e-7, 0.05],
        "net__handlers__stop__patience": [1, 6],
    }
    search = GridSearchCV(make_named_pipeline(net), grid, cv=2, n_jobs=1).fit(X, y)

    assert search.best_score_ > 0.9
    assert search.best_params_["net__optimizer__lr"] == 0.05
    assert (
        search.best_estimator_.named_steps["net"].module_[0].out_features == search.best_params_["net__module__units"]
    )
    assert search.predict(X).shape == (150,)


def make_named_pipeline(net: Any) -> Any:
    pipeline = make_pipeline(StandardScaler(), net)
    pipeline.steps = [("scale", pipeline.steps[0][1]), ("net", pipeline.steps[1][1])]
    return pipeline


def test_the_module_is_told_how_many_features_a_pipeline_makes() -> None:
    X = pd.DataFrame({"kind": ["a", "b", "c"] * 20, "size": np.arange(60.0)})
    encode = ColumnTransformer([("kind", OneHotEncoder(sparse_output=False), ["kind"])], remainder=StandardScaler())
    pipeline = make_pipeline(encode, classifier(max_epochs=30, optimizer__lr=0.05)).fit(X, X["kind"])

    assert pipeline[-1].n_features_in_ == pipeline[-1].module_[0].in_features == 4
    assert pipeline.score(X, X["kind"]) == 1.0
    assert cross_val_score(pipeline, X, X["kind"], cv=2).min() > 0.9


# ------------------------------------------------------------------------------------------------------------- handlers


class Note:
    """Notes what it is attached to and when it is called."""

    instances: list[Note] = []  # noqa: RUF012 - of the class, for the test to find

    def __init__(self, event: Any = Events.EPOCH_COMPLETED) -> None:
        self.event = event
        self.calls = 0
        Note.instances.append(self)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(self.event, self)

    def __call__(self) -> None:
        self.calls += 1


def test_a_handler_is_made_anew_for_each_training(two_moons: tuple[Any, Any]) -> None:
    Note.instances = []
    estimator = classifier(handlers={"note": Note}, handlers__note__event=Events.ITERATION_COMPLETED)
    estimator.fit(*two_moons).fit(*two_moons)

    assert [one.calls for one in Note.instances] == [12, 12]


def test_a_handler_that_is_an_object_is_copied_and_stays_as_it_is(two_moons: tuple[Any, Any]) -> None:
    stop = EarlyStopping(patience=1, score_function=lambda engine: 0.0)
    estimator = classifier(max_epochs=9, handlers={"stop": stop, "nan": TerminateOnNan()})

    assert len(estimator.fit(*two_moons).history_) == 2
    assert len(estimator.fit(*two_moons).history_) == 2
    assert len(clone(estimator).set_params(handlers__stop__patience=3).fit(*two_moons).history_) == 4
    assert (stop.patience, stop.counter, stop.trainer) == (1, 0, None)


def test_a_handler_that_takes_an_evaluator_gets_one_that_sees_what_is_held_out(two_moons: tuple[Any, Any]) -> None:
    """Twelve of sixty samples, of each class as many as of all; by default the loss and the accuracy."""
    X, y = two_moons
    seen: dict[str, list[Any]] = {"trained": [], "evaluated": []}

    class Spy:
        def attach(self, trainer: Engine, evaluator: Engine) -> None:
            trainer.add_event_handler(
                Events.ITERATION_COMPLETED(before=4), lambda: seen["trained"].append(trainer.state.batch)
            )
            evaluator.add_event_handler(
                Events.ITERATION_COMPLETED(before=2), lambda: seen["evaluated"].append(evaluator.state.batch)
            )

    estimator = classifier(max_epochs=1, handlers={"spy": Spy}, validation_fraction=0.2).fit(X, y)

    trained, evaluated = (torch.cat([x for x, _ in batches]).numpy() for batches in seen.values())
    assert (len(trained), len(evaluated)) == (48, 12)
    assert sorted(map(tuple, np.concatenate([trained, evaluated]))) == sorted(map(tuple, X))
    labels = torch.cat([y for _, y in seen["evaluated"]])
    assert labels.bincount().tolist() == [6, 6]
    (line,) = estimator.history_
    assert set(line) == {"epoch", "train_loss", "loss", "accuracy"}
    probabilities = torch.tensor(estimator.predict_proba(evaluated))
    assert line["loss"] == pytest.approx(nn.functional.nll_loss(probabilities.log(), labels).item(), rel=1e-5)
    assert line["accuracy"] == pytest.approx((probabilities.argmax(1) == labels).float().mean().item())


def test_where_nothing_is_held_out_the_evaluator_sees_the_samples_of_the_training(two_moons: tuple[Any, Any]) -> None:
    X, y = two_moons
    stop = {"stop": EarlyStopping}
    line = classifier(handlers=stop, handlers__stop__patience=9, handlers__stop__score_function="accuracy").fit(X, y)

    assert line.history_[-1]["accuracy"] == pytest.approx(line.score(X, y))
    assert set(classifier().fit(X, y).history_[0]) == {"epoch", "train_loss"}, "nobody asks, nobody evaluates"


def test_a_regressor_is_evaluated_by_its_loss_and_its_absolute_error() -> None:
    X = np.random.RandomState(0).randn(40, 2)
    estimator = regressor(validation_fraction=0.5, handlers={"nan": TerminateOnNan}).fit(X, X[:, 0])

    assert set(estimator.history_[-1]) == {"epoch", "train_loss", "loss", "mae"}


# ------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "EngineClassifier: batch_size must be at least 1, got 0"),
        ({"batch_size": True}, TypeError, "EngineClassifier: batch_size must be an integer, got True"),
        ({"validation_fraction": 1.0}, ValueError, "EngineClassifier: validation_fraction must be in [0, 1), got 1.0"),
        ({"max_epochs": 0}, ValueError, "max_epochs must be at least 1, got 0"),
        ({"module": nn.Linear(4, 2)}, TypeError, "EngineClassifier: module must be a class, or a function that makes"),
        ({"module__unit": 3}, TypeError, "unexpected keyword argument 'unit'"),
        ({"module__n_outputs": 3}, ValueError, "must return a score for each of 2 classes, shape (N, 2), got (16, 3)"),
        (
            {"handlers": {"stop": print}},
            TypeError,
            "handlers: 'stop' must be a class or an object with a method attach",
        ),
        (
            {"handlers": {}, "handlers__stop__patience": 1},
            ValueError,
            "handlers: stop__patience is for a handler 'stop', but there are []",
        ),
        (
            {"handlers": {"nan": TerminateOnNan()}, "handlers__nan__patience": 1},
            ValueError,
            "handlers: 'nan', a TerminateOnNan, has no attribute 'patience' to be set",
        ),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_a_wrong_parameter_is_named_by_fit(
    params: dict[str, Any], error: type[Exception], message: str, two_moons: tuple[Any, Any]
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        classifier(**params).fit(*two_moons)


def test_a_misspelt_parameter_is_refused_at_once() -> None:
    with pytest.raises(
        TypeError, match=r"no parameter 'max_epoch'; what goes to a part begins with module__, criterion"
    ):
        EngineClassifier(Net, max_epoch=3)
    with pytest.raises(ValueError, match=r"Invalid parameter 'modul' for estimator"):
        EngineClassifier(Net).set_params(modul__units=3)


def test_lengths_that_disagree_are_told(two_moons: tuple[Any, Any]) -> None:
    X, y = two_moons
    with pytest.raises(ValueError, match=re.escape("as many samples, got {'X': 60, 'y': 59}")):
        classifier().fit(X, y[1:])
    with pytest.raises(ValueError, match=re.escape("as many samples, got {'X': 60, 'y': 60, 'sample_weight': 2}")):
        classifier().fit(X, y, sample_weight=[1.0, 1.0])
    with pytest.raises(ValueError, match=re.escape("X: all entries must have as many samples, got {'a': 60, 'b': 59}")):
        classifier().fit({"a": X, "b": X[1:]}, y)


@pytest.mark.parametrize("weight", [[0.0] * 60, [-1.0] * 60, [[1.0]] * 60, [float("nan")] * 60], ids=str)
def test_weights_that_make_no_sense_are_refused(weight: Any, two_moons: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="sample_weight must be one-dimensional, a finite number from 0 on"):
        classifier().fit(*two_moons, sample_weight=weight)


def test_targets_of_another_shape_are_refused() -> None:
    X = np.zeros((8, 2))
    with pytest.raises(ValueError, match=re.escape("must return targets of the shape ('N', 3), got (8, 1)")):
        regressor(module__n_outputs=1).fit(X, np.zeros((8, 3)))
    estimator = regressor().partial_fit(X, np.zeros((8, 3)))
    with pytest.raises(ValueError, match=re.escape("must have the shape (3,), as before, got ()")):
        estimator.partial_fit(X, np.zeros(8))


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_nothing_is_predicted_before_it_is_fitted(method: str, two_moons: tuple[Any, Any]) -> None:
    with pytest.raises(NotFittedError, match="This EngineClassifier instance is not fitted yet"):
        getattr(classifier(), method)(two_moons[0])


@pytest.mark.gpu
def test_the_module_and_the_batches_are_where_device_says(two_moons: tuple[Any, Any]) -> None:
    """Predictions come back as arrays, and the generator of the device is left as it was."""
    X, y = two_moons
    device = torch.accelerator.current_accelerator()
    assert device is not None
    before = torch.get_device_module(device).get_rng_state()
    estimator = classifier(device=device, module__dropout=0.5, validation_fraction=0.2, max_epochs=20)
    first = weights(estimator.fit(X, torch.tensor(y, device=device)))

    assert all(parameter.device.type == device.type for parameter in first)
    assert torch.equal(torch.get_device_module(device).get_rng_state(), before)
    assert same(weights(estimator.fit(torch.tensor(X, device=device), y)), first)
    assert estimator.predict_proba(X).shape == (60, 2)
    assert pickle.loads(pickle.dumps(estimator)).score(X, y) == estimator.score(X, torch.tensor(y, device=device))


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package itself can be imported; none of its names can."""
    monkeypatch.setattr(ignite_contrib, "sklearn", ignite_contrib.sklearn)  # to be put back
    for name in [name for name in sys.modules if name.startswith("ignite_contrib.sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "numpy", None)  # then it may be missing too
    package = importlib.import_module("ignite_contrib.sklearn")
    message = "ignite_contrib.sklearn needs the package 'sklearn': pip install 'ignite-core[sklearn]'"
    for name in package.__all__:
        with pytest.raises(ModuleNotFoundError, match=re.escape(message)):
            getattr(package, name)

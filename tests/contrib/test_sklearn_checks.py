"""The checks that scikit-learn has for estimators; those that do not apply are listed with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from torch import nn

from ignite_contrib.sklearn import EngineClassifier, EngineRegressor


class Net(nn.Sequential):
    def __init__(self, n_features: int, n_outputs: int, units: int = 32) -> None:
        super().__init__(nn.Linear(n_features, units), nn.ReLU(), nn.Linear(units, n_outputs))


ESTIMATORS = [kind(Net, max_epochs=10, optimizer__lr=0.1) for kind in (EngineClassifier, EngineRegressor)]

_IN_SINGLE_PRECISION = {
    "check_sample_weight_equivalence_on_dense_data": (
        "asks for seven digits after the whole training, the module computes in float32 and has no more than that"
    ),
    "check_regressor_multioutput": "asks for predictions in float64, they are in the precision of the module: float32",
}
_NOT_OURS = {
    "check_do_not_raise_errors_in_init_or_set_params": (
        "takes the name of **arguments for a parameter, which is refused at once, as any misspelt name is"
    ),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def in_double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def do_not_apply(estimator: Any) -> dict[str, str]:
    of_regressors_alone = {"check_regressor_multioutput"} if isinstance(estimator, EngineClassifier) else set()
    return {name: why for name, why in (_NOT_OURS | _IN_SINGLE_PRECISION).items() if name not in of_regressors_alone}


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=do_not_apply)
def test_scikit_learn_has_nothing_to_object(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        pytest.param(one, check, id=f"{type(one).__name__}-{check.func.__name__}")
        for estimator in ESTIMATORS
        for one, check in estimator_checks_generator(estimator)
        if check.func.__name__ in _IN_SINGLE_PRECISION
    ],
)
@pytest.mark.usefixtures("in_double_precision")
def test_what_fails_for_the_number_of_digits_passes_with_more_of_them(estimator: Any, check: Any) -> None:
    check(estimator)

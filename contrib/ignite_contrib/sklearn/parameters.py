"""Arguments of the parts of an estimator, as parameters ``part__argument`` of the estimator itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

__all__ = ["PartParameters"]


class PartParameters:
    """Lets ``clone``, ``set_params`` and a grid search reach the arguments of parts that are classes.

    A parameter ``part__argument`` need not be there before it is set.
    """

    _parts: tuple[str, ...] = ()
    _arguments: Mapping[str, Any]

    def _take(self, arguments: Mapping[str, Any]) -> None:
        """What a constructor does with its further keywords.

        Raises:
            TypeError: If one of them is for no part.
        """
        for name in arguments:
            if not self._is_argument(name):
                parts = ", ".join(f"{part}__" for part in self._parts)
                raise TypeError(
                    f"{type(self).__name__}: there is no parameter {name!r}; what goes to a part begins with {parts}"
                )
        self._arguments = arguments

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters by name, those of the parts among them.

        Args:
            deep: Also those of parameters that are estimators.
        """
        params: dict[str, Any] = super().get_params(deep)  # type: ignore[misc]  # of BaseEstimator
        return {**params, **self._arguments}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name; returns the estimator.

        Raises:
            ValueError: If there is no such parameter, and no such part.
        """
        of_parts = {name: params.pop(name) for name in list(params) if self._is_argument(name)}
        super().set_params(**params)  # type: ignore[misc]
        self._arguments = {**self._arguments, **of_parts}
        return self

    def _arguments_of(self, part: str) -> dict[str, Any]:
        """What a part is to be made with."""
        prefix = f"{part}__"
        return {name.removeprefix(prefix): value for name, value in self._arguments.items() if name.startswith(prefix)}

    def _is_argument(self, name: str) -> bool:
        part, _, argument = name.partition("__")
        return part in self._parts and argument != ""

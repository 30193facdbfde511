"""Load saved states into objects: into all of them, or into none.

Names, keys and shapes are checked beforehand. Objects whose loading may still fail are loaded first, with a backup;
modules whose keys and shapes all fit, and which load as torch does, come last and need no backup.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ignite_core.engine.engine import Engine
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.dcp_reader import read_folder
from ignite_core.handlers.checkpoint.sharded import is_sharded, load_sharded
from ignite_core.handlers.checkpoint.states import Wrappers, by_name, check_objects, is_zero, paired, unwrapped
from ignite_core.handlers.checkpoint.storage.load import load

__all__ = ["Restoring", "load_objects"]

#: Suffix of the key of a module's extra state, which need not be a tensor.
_EXTRA = "_extra_state"

#: The number of problems that a message lists.
_SHOWN = 6


def load_objects(
    to_load: Mapping[str, Any], checkpoint: str | os.PathLike[str] | Mapping[str, Any], **kwargs: Any
) -> None:
    """Load a checkpoint into objects: into all of them, or, if anything is wrong, into none.

    Args:
        to_load: Names and objects with ``load_state_dict``, as in ``to_save`` or a part of it.
        checkpoint: A path, which is verified and then read as by :func:`torch.load` with ``weights_only=True``; or
            states by name; or the bare state of a single object.
        kwargs: Arguments of ``load_state_dict`` of modules, such as ``strict=False``.

    Raises:
        TypeError: If an argument has a wrong type.
        CheckpointError: If the file is damaged or not safe, or does not fit the objects.

    Example:
        >>> saved, model = nn.Linear(2, 1), nn.Linear(2, 1)
        >>> load_objects({"model": model}, {"model": saved.state_dict()})
        >>> bool((model.weight == saved.weight).all())
        True
    """
    check_objects(to_load, "load_state_dict", "Checkpoint.load_objects")
    if isinstance(checkpoint, str | os.PathLike):
        path = Path(checkpoint)
        states = read_folder(path, to_load) if path.is_dir() else load(path)
        Restoring(to_load, states, path.name, **kwargs).load()
    elif isinstance(checkpoint, Mapping):
        Restoring(to_load, checkpoint, "Checkpoint.load_objects", **kwargs).load()
    else:
        raise TypeError(
            "Checkpoint.load_objects: checkpoint must be a path or a mapping of names to states, got "
            f"{type(checkpoint).__name__}"
        )


class Restoring:
    """States that were checked against their objects, to be loaded in two steps.

    Args:
        objects: Objects by name; also nested mappings, lists and tuples of objects.
        states: The states by name, or the bare state of a single object.
        source: Where they come from, for messages.
        options: Arguments of ``load_state_dict`` of modules, such as ``strict=False``.

    Raises:
        CheckpointError: If an object has no state, or a module has other keys or shapes. Nothing was changed.
    """

    def __init__(self, objects: Mapping[str, Any], states: Any, source: str, **options: Any) -> None:
        pairs = paired(objects, by_name(objects, states), source)
        parts = [_Part(path, obj, state, source, options) for path, obj, state in pairs]
        complaints = [f"{part.path}: {complaint}" for part in parts for complaint in part.complaints]
        if complaints:
            more = f"; and {len(complaints) - _SHOWN} more" if len(complaints) > _SHOWN else ""
            raise CheckpointError(
                f"{source}: what was saved does not fit the objects, which were left as they were: "
                f"{'; '.join(complaints[:_SHOWN])}{more}"
            )
        # An engine checks everything before it changes, and what has no state_dict() cannot go back: these come last.
        parts.sort(key=lambda part: (not hasattr(part.obj, "state_dict"), isinstance(part.obj, Engine)))
        self._risky = [part for part in parts if not part.is_safe]
        self._safe = [part for part in parts if part.is_safe]
        self._undo: list[_Part] = []

    def load(self) -> None:
        """Load everything.

        Raises:
            CheckpointError: If an object does not accept its state; those loaded before it are restored.
        """
        try:
            self.load_risky()
            self.load_safe()
        except BaseException:
            self.roll_back()  # if it is interrupted between the two
            raise

    def load_risky(self) -> None:
        """Load what may fail; if it does, or is interrupted (Ctrl-C), everything is restored."""
        self._undo = []
        try:
            for part in self._risky:
                part.back_up()
                self._undo.append(part)
                part.load()
        except BaseException as error:
            left = "All objects were left as they were" + "".join(f", but for {why}" for why in self.roll_back())
            if not isinstance(error, Exception):
                error.add_note(f"Interrupted while objects were being loaded. {left}")
                raise
            raise CheckpointError(
                f"{part.source}: {part.path!r}, a {type(part.obj).__name__}, does not accept its saved state: "
                f"{type(error).__name__}: {error}. {left}"
            ) from error

    def roll_back(self) -> list[str]:
        """Undo :meth:`load_risky` until :meth:`load_safe` begins; returns what could not be restored, and why."""
        lost = []
        undo, self._undo = self._undo, []
        for part in reversed(undo):
            try:
                part.roll_back()
            except BaseException as error:  # the others are restored all the same
                lost.append(f"{part.path!r}, which does not accept its former state: {type(error).__name__}: {error}")
        return lost

    def load_safe(self) -> None:
        """Load what fits. It has no backup, so an interruption is raised when all of it is loaded."""
        try:
            self._undo = []
            for part in self._safe:
                part.load()
        except Exception:
            raise
        except BaseException:
            for part in self._safe if not self._undo else ():  # else it had not begun, and the rest is restored
                part.load()
            raise


class _Part:
    """One object and its state."""

    def __init__(self, path: str, obj: Any, state: Any, source: str, options: Mapping[str, Any]) -> None:
        self.path = path
        self.source = source
        self.obj = unwrapped(obj)
        self.options = options if isinstance(self.obj, nn.Module) else {}
        self.state = state
        self.complaints: list[str] = []
        self.is_safe = is_zero(self.obj)  # its state for a backup would need all ranks
        self._backup: Any = None
        if isinstance(self.obj, nn.Module):
            self._compare()

    def _compare(self) -> None:
        """Compare keys and shapes. Modules with custom loading may accept what does not fit."""
        if not isinstance(self.state, Mapping):
            self.complaints = [f"a module needs a mapping, got {type(self.state).__name__}"]
            return
        own = self.obj.state_dict()
        self.state = Wrappers(self.obj).put_on(self.state, own)
        found = list(_differences(own, self.state, self.options.get("strict", True)))
        custom = [path for path, part in self.obj.named_modules(remove_duplicate=False) if _has_custom_loading(part)]
        self.complaints = [text for key, text in found if not any(_is_within(key, path) for path in custom)]
        trusted = not found and all(_loads_as_torch_does(part) for part in self.obj.modules())
        self.is_safe = trusted or is_sharded(own)  # no backup of what is sharded over devices

    def load(self) -> None:
        if isinstance(self.obj, nn.Module) and not self.options:
            load_sharded(self.obj, self.state)
        elif isinstance(self.obj, nn.Module):
            state = copy.deepcopy(self.state) if self.options.get("assign") else self.state
            self.obj.load_state_dict(state, **self.options)
        else:
            # A copy: what was read is mapped from the file, which would stay open.
            state = copy.deepcopy(self.state)
            if is_zero(self.obj) or not hasattr(self.obj, "state_dict"):
                self.obj.load_state_dict(state)
            else:
                load_sharded(self.obj, state)

    def back_up(self) -> None:
        """Back up the state of the object, if it has a ``state_dict``."""
        if not hasattr(self.obj, "state_dict"):
            return
        if isinstance(self.obj, torch.optim.Optimizer):  # it replaces its tensors, and does not change them
            self._backup = self.obj.state_dict()
        elif isinstance(self.obj, nn.Module):
            own = self.obj.state_dict()
            self._backup = {key: value if is_lazy(value) else copy.deepcopy(value) for key, value in own.items()}
        else:
            self._backup = copy.deepcopy(self.obj.state_dict())

    def roll_back(self) -> None:
        if not hasattr(self.obj, "state_dict"):
            raise AttributeError("it has no state_dict()")
        if not isinstance(self.obj, nn.Module):
            self.obj.load_state_dict(self._backup)
            return
        own = self.obj.state_dict()  # not by load_state_dict, which may be what failed
        for key, value in self._backup.items():
            if isinstance(value, Tensor) and not is_lazy(value):
                own[key].copy_(value)
            elif key.endswith(_EXTRA):
                self.obj.get_submodule(key.removesuffix(_EXTRA).removesuffix(".")).set_extra_state(value)


def _differences(own: Mapping[str, Any], state: Mapping[str, Any], strict: bool) -> Iterator[tuple[str, str]]:
    """Keys where a module and a state do not fit, and what is wrong."""
    if strict:
        yield from ((key, f"{key} is missing") for key in own if key not in state)
        yield from ((key, f"{key} is not known") for key in state if key not in own)
    for key, value in own.items():
        if not isinstance(value, Tensor) or key not in state:
            continue
        saved = state[key]
        if not isinstance(saved, Tensor):
            yield key, f"{key} must be a tensor, got {type(saved).__name__}"
        elif is_lazy(value) or value.shape != saved.shape:
            shape = "not known yet" if is_lazy(value) else tuple(value.shape)
            yield key, f"{key} has shape {tuple(saved.shape)}, and the module's is {shape}"


def _is_within(key: str, path: str) -> bool:
    return not path or key == path or key.startswith(f"{path}.")


def _has_custom_loading(module: nn.Module) -> bool:
    """Whether a module may change a state before it loads it, as batch norm does with old states."""
    changed = type(module)._load_from_state_dict is not nn.Module._load_from_state_dict
    return changed or type(module).load_state_dict is not nn.Module.load_state_dict or bool(_hooks(module))


def _loads_as_torch_does(module: nn.Module) -> bool:
    ways: list[Callable[..., Any]] = [type(module)._load_from_state_dict, type(module).load_state_dict, *_hooks(module)]
    return all((getattr(way, "__module__", None) or "").startswith("torch.") for way in ways)


def _hooks(module: nn.Module) -> list[Callable[..., Any]]:
    before = [getattr(hook, "hook", hook) for hook in module._load_state_dict_pre_hooks.values()]
    return [*before, *module._load_state_dict_post_hooks.values()]

"""File names of checkpoints: by default ``{filename_prefix}_{name}_{global_step}_{score_name}={score}.pt``."""

from __future__ import annotations

import numbers
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.storage.manifest import check_name

__all__ = ["EXTENSION", "Naming", "filename_pattern", "object_name", "shown_score"]

EXTENSION = "pt"

#: Characters that a file name cannot have.
_FORBIDDEN = re.compile(r"[/\0]" if os.name == "posix" else r'[<>:"/\\|?*\0]')

#: What may be in braces in a custom pattern.
_PARTS = ("filename_prefix", "name", "global_step", "score_name", "score", "ext")


def filename_pattern(
    with_prefix: bool = True, with_score: bool = True, with_score_name: bool = True, with_global_step: bool = True
) -> str:
    """The pattern of file names with these parts.

    Args:
        with_prefix: Begin with ``{filename_prefix}_``.
        with_score: Contain ``{score}``.
        with_score_name: Contain ``{score_name}=`` before the score.
        with_global_step: Contain ``{global_step}``.

    Raises:
        ValueError: If it contains neither the score nor the step, or the name of a score without the score.

    Example:
        >>> filename_pattern()
        '{filename_prefix}_{name}_{global_step}_{score_name}={score}.{ext}'
        >>> filename_pattern(with_prefix=False, with_score=False, with_score_name=False)
        '{name}_{global_step}.{ext}'
    """
    if not (with_score or with_global_step):
        raise ValueError(
            "Checkpoint.setup_filename_pattern: a name needs the score or the step, got with_score=False and "
            "with_global_step=False: all checkpoints would have one name"
        )
    if with_score_name and not with_score:
        raise ValueError(
            "Checkpoint.setup_filename_pattern: with_score_name=True needs with_score=True, got with_score=False"
        )
    score = "{score_name}={score}" if with_score_name else "{score}"
    parts = {
        "{filename_prefix}": with_prefix,
        "{name}": True,
        "{global_step}": with_global_step,
        score: with_score,
    }
    return "_".join(part for part, is_in in parts.items() if is_in) + ".{ext}"


def shown_score(score: Any) -> str:
    """A score in a file name: integers as they are, other numbers with four decimals, None as ``none``."""
    if score is None:
        return "none"
    return f"{score}" if isinstance(score, numbers.Integral) else f"{score:.4f}"


@dataclass(frozen=True)
class Naming:
    """How one handler names its checkpoints.

    Args:
        prefix: Prefix of the names; may be empty.
        has_score: Whether there is a score function.
        score_name: Name of the score. As in names of objects, a slash in it becomes an underscore in file names.
        pattern: A custom pattern.

    Raises:
        TypeError: If the pattern is not a string.
        ValueError: If its braces contain anything else than the parts of a name.
    """

    prefix: str = ""
    has_score: bool = False
    score_name: str | None = None
    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.pattern is None:
            return
        if not isinstance(self.pattern, str):
            raise TypeError(f"Checkpoint: filename_pattern must be a string, got {type(self.pattern).__name__}")
        unknown = [part for _, part, _, _ in Formatter().parse(self.pattern) if part is not None and part not in _PARTS]
        if unknown:
            raise ValueError(
                f"Checkpoint: in filename_pattern there may be {', '.join(f'{{{part}}}' for part in _PARTS)}, "
                f"got {self.pattern!r} with {unknown}"
            )

    def check(self) -> None:
        """Check that the names are valid file names. Raises ValueError if they are not."""
        try:
            check_name(self.filename("checkpoint", 0, 0.0))
        except CheckpointError as error:
            raise ValueError(
                f"Checkpoint: filename_prefix and filename_pattern must make the name of a file: {error}; a folder for "
                "the files is a part of save_handler"
            ) from None

    def basename(self, name: str) -> str:
        """The common beginning of the names of one handler."""
        return f"{self.prefix}_{_plain(name)}" if self.prefix else _plain(name)

    def fits(self, name: str | None, filename: str, number: str = ".+") -> bool:
        """Whether a file may have this name, at some step and with some score.

        Args:
            name: Name of the object in it; None if it is not known yet.
            filename: The name of the file.
            number: A regular expression for steps and scores.
        """
        values = {"filename_prefix": self.prefix, "name": name, "score_name": self.score_name, "ext": EXTENSION}
        known = {part: number if value is None else re.escape(_plain(value)) for part, value in values.items()}
        texts = [self.pattern] if self.pattern is not None else self._patterns()
        return any(re.fullmatch(_expression(text, known, number), filename) is not None for text in texts)

    def _patterns(self) -> list[str]:
        """The default patterns: with the step, and if there is a score also without it."""
        has_name = self.has_score and self.score_name is not None
        steps = (True, False) if self.has_score else (True,)
        return [filename_pattern(bool(self.prefix), self.has_score, has_name, has_step) for has_step in steps]

    def filename(self, name: str, global_step: Any = None, score: Any = None) -> str:
        """The name of a checkpoint.

        Args:
            name: Name of the object in it; ``checkpoint`` if there are several.
            global_step: The step; None leaves it out.
            score: A number, or a string that is used as it is.
        """
        pattern = self.pattern
        if pattern is None:
            pattern = filename_pattern(
                bool(self.prefix),
                self.has_score,
                self.has_score and self.score_name is not None,
                global_step is not None,
            )
        return pattern.format(
            filename_prefix=self.prefix,
            name=_plain(name),
            global_step=global_step,
            score_name=None if self.score_name is None else _plain(self.score_name),
            score=score if isinstance(score, str) else shown_score(score),
            ext=EXTENSION,
        )


def _expression(pattern: str, known: Mapping[str, str], number: str) -> str:
    """A regular expression for the names of a pattern."""
    parts = Formatter().parse(pattern)
    return "".join(re.escape(text) + ("" if part is None else known.get(part, number)) for text, part, _, _ in parts)


def _plain(name: object) -> str:
    return _FORBIDDEN.sub("_", str(name))


def object_name(names: Collection[str]) -> str:
    """The name for the objects in a file name: that of the only one, else ``checkpoint``."""
    return next(iter(names)) if len(names) == 1 else "checkpoint"

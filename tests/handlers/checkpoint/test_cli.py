"""``python -m ignite_core.checkpoint`` as people run it."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ignite_core.checkpoint import main
from ignite_core.engine import Engine
from ignite_core.handlers import Checkpoint, DiskSaver


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model, trainer = nn.Linear(3, 2), Engine(lambda engine, batch: None)
    checkpoint = Checkpoint(
        {"model": model, "trainer": trainer},
        tmp_path / "run",
        n_saved=None,
        score_function=lambda e: 0.5,
        score_name="a",
    )
    for trainer.state.iteration in (10, 20):
        checkpoint.filename_pattern = None
        checkpoint._naming = type(checkpoint._naming)(pattern="c_{score}_" + f"{trainer.state.iteration}.pt")
        checkpoint(trainer)
        with torch.no_grad():
            model.weight[0, 0] += 0.25
    return tmp_path / "run"


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ignite_core.checkpoint", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_is_a_command(folder: Path) -> None:
    shown = command("show", folder / "c_0.5000_20.pt")
    assert shown.returncode == 0
    assert "model.weight" in shown.stdout
    assert shown.stderr == ""

    wrong = command("show", folder / "nowhere.pt")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert f"{folder / 'nowhere.pt'} does not exist" in wrong.stderr


def test_a_command_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])

    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_show_tells_what_is_known_and_what_is_in_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(folder / "c_0.5000_20.pt")]) == 0
    lines = capsys.readouterr().out.splitlines()

    assert lines[0] == str(folder / "c_0.5000_20.pt")
    for line in ("step: 20", "score: 0.5", "score_name: a", "objects: model, trainer", "trainer: trainer"):
        assert line in lines
    assert any(line.split() == ["model.weight", "float32", "(2,", "3),", "24", "B"] for line in lines)
    assert any(line.split() == ["trainer.iteration", "20"] for line in lines)
    assert any(f"torch {torch.__version__}" in line for line in lines)


def test_show_of_a_folder_lists_the_newest_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(folder)]) == 0
    first, second = capsys.readouterr().out.splitlines()

    assert first.startswith("c_0.5000_20.pt  step 20, score 0.5, ")
    assert second.startswith("c_0.5000_10.pt  step 10")


def test_verify_says_which_are_whole_and_fails_if_one_is_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{folder / 'c_0.5000_20.pt'}: whole",
        f"{folder / 'c_0.5000_10.pt'}: whole",
    ]
    data = bytearray((folder / "c_0.5000_10.pt").read_bytes())
    data[500] ^= 1
    (folder / "c_0.5000_10.pt").write_bytes(data)
    for path in (folder, folder / "c_0.5000_10.pt"):
        assert main(["verify", str(path)]) == 1
        assert "damaged: " in capsys.readouterr().out


def test_verify_of_a_file_that_nothing_tells_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": 1}, tmp_path / "foreign.pt")

    assert main(["verify", str(tmp_path / "foreign.pt")]) == 0
    assert "safe to load; not verified, as it has no manifest" in capsys.readouterr().out
    assert main(["verify", str(tmp_path)]) == 0
    assert "no checkpoint with a manifest found" in capsys.readouterr().out


def test_diff_tells_the_first_entries_that_are_different_and_by_how_much(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = str(folder / "c_0.5000_10.pt"), str(folder / "c_0.5000_20.pt")

    assert main(["diff", one, one]) == 0
    assert capsys.readouterr().out == "the same\n"
    assert main(["diff", one, two]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "model.weight: 1 of 6 numbers are different, by up to 0.25"
    assert "trainer.iteration: 10, and 20" in lines
    assert main(["diff", one, two, "--most", "1"]) == 1
    assert capsys.readouterr().out.splitlines()[1] == "and 1 more (--most N shows more)"


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ({"a": torch.ones(2)}, {"b": torch.ones(2)}, ["a: only in the first", "b: only in the second"]),
        ({"a": torch.ones(2)}, {"a": torch.ones(3)}, ["a: float32 (2,), 8 B, and float32 (3,), 12 B"]),
        ({"a": torch.ones(2)}, {"a": torch.ones(2).half()}, ["a: float32 (2,), 8 B, and float16 (2,), 4 B"]),
        ({"a": torch.tensor([1, 2])}, {"a": torch.tensor([1, 5])}, ["a: 1 of 2 numbers are different, by up to 3"]),
        ({"a": torch.tensor(float("nan"))}, {"a": torch.tensor(float("nan"))}, []),
        ({"a": float("nan"), "b": [1, {"c": True}]}, {"a": float("nan"), "b": [1, {"c": 1}]}, ["b[1].c: True, and 1"]),
        ({"a": torch.ones(0)}, {"a": torch.ones(0)}, []),
        ({"a": torch.tensor([True])}, {"a": torch.tensor([False])}, ["a: 1 of 1 numbers are different, by up to 1"]),
        ({"a": torch.tensor(1 + 2j)}, {"a": torch.tensor(1 + 0j)}, ["a: 1 of 1 numbers are different, by up to 2"]),
    ],
)
def test_diff_of_all_kinds_of_entries(
    one: object, two: object, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(one, tmp_path / "one.pt")
    torch.save(two, tmp_path / "two.pt")
    code = main(["diff", str(tmp_path / "one.pt"), str(tmp_path / "two.pt")])

    assert code == (1 if expected else 0)
    assert capsys.readouterr().out.splitlines()[:-1] == expected


class Bomb:
    def __reduce__(self) -> object:
        return os.mkdir, ("canary",)


@pytest.mark.parametrize("what", ["show", "verify", "diff"])
def test_nothing_in_a_file_is_run(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """R27 at the command line."""
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Bomb()}, "bomb.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.pt", "old.pt"):
        code = main([what, *([name, name] if what == "diff" else [name])])
        told = capsys.readouterr()

        assert code == (1 if what == "verify" else 2)
        assert name in told.out + told.err
    assert not (tmp_path / "canary").exists()


def test_it_works_on_a_folder_that_is_saved_into_by_others(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    DiskSaver(folder, require_empty=False)({"a": 1}, "bare.pt")
    (folder / ".ignite-host-0-0.data").touch()

    assert main(["show", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("bare.pt  ")

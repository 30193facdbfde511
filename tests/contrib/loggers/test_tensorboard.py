"""TensorBoard: what is logged, read back by TensorBoard's own reader, with both libraries that write its files."""

from __future__ import annotations

import importlib.util
import io
import math
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from ignite_contrib.figures import confusion_matrix_figure
from ignite_contrib.loggers import TensorboardLogger
from ignite_contrib.loggers.tensorboard import EventFile
from ignite_core.engine import Engine, Events
from ignite_core.handlers import (
    FigureHandler,
    GradsHistHandler,
    ImageHandler,
    OptimizerParamsHandler,
    OutputHandler,
    TextHandler,
    WeightsHistHandler,
    WeightsScalarHandler,
)

KEEP_ALL = {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0, "compressedHistograms": 0}


@pytest.fixture(params=["tensorboardX", "torch.utils.tensorboard"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two is installed, as far as the logger knows."""
    find_spec = importlib.util.find_spec
    if request.param != "tensorboardX":
        monkeypatch.setattr(
            "ignite_contrib.loggers.tensorboard.find_spec",
            lambda name: None if name == "tensorboardX" else find_spec(name),
        )
    return request.param


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance=KEEP_ALL).Reload()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = read(folder)
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_numbers_and_steps_are_read_back(library: str, tmp_path: Path) -> None:
    trainer, evaluator = Engine(lambda engine, batch: {"loss": 1 / batch}), Engine(lambda engine, batch: None)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
    evaluator.add_event_handler(
        Events.STARTED, lambda: evaluator.state.metrics.update({"recall": torch.tensor([0.5, 1])})
    )
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.125)
    with TensorboardLogger(log_dir=str(tmp_path)) as logger:
        assert type(logger.writer).__module__.startswith(library)
        logger.attach_output_handler(
            trainer, Events.ITERATION_COMPLETED, tag="training", output_transform=lambda output: output
        )
        logger.attach_output_handler(evaluator, Events.COMPLETED, tag="validation", metric_names="all")
        logger.attach(trainer, OptimizerParamsHandler(optimizer), Events.EPOCH_STARTED)
        trainer.run([1, 2, 4, 8], max_epochs=2)

    assert scalars(tmp_path) == {
        "training/loss": list(zip(range(1, 9), [1, 0.5, 0.25, 0.125] * 2, strict=True)),
        "validation/recall/0": [(1, 0.5), (2, 0.5)],
        "validation/recall/1": [(1, 1.0), (2, 1.0)],
        "lr/group_0": [(1, 0.125), (2, 0.125)],
    }
    assert len(list(tmp_path.iterdir())) == 1, "one file, and nothing that was not sent"


def test_nan_and_infinity_arrive_as_such(library: str, tmp_path: Path) -> None:
    with TensorboardLogger(log_dir=str(tmp_path)) as logger:
        for step, value in enumerate([math.nan, math.inf, -math.inf, torch.tensor(math.nan)]):
            logger.scalars(step, {("value",): value})

    assert [str(value) for _, value in scalars(tmp_path)["value"]] == ["nan", "inf", "-inf", "nan"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_weights_arrive_as_histograms(library: str, tmp_path: Path, dtype: torch.dtype) -> None:
    model = nn.Linear(3, 2).to(dtype)
    nn.init.constant_(model.weight, 0.5)
    model.bias.data = torch.tensor([math.nan, 2.0], dtype=dtype)
    model.weight.grad = torch.ones_like(model.weight)
    trainer = Engine(lambda engine, batch: None)
    with TensorboardLogger(log_dir=str(tmp_path)) as logger:
        logger.attach(trainer, WeightsHistHandler(model, tag="model"), Events.EPOCH_COMPLETED)
        logger.attach(trainer, GradsHistHandler(model), Events.EPOCH_COMPLETED)
        logger.attach(
            trainer, WeightsScalarHandler(model, reduction=torch.max, whitelist=["w"]), Events.EPOCH_COMPLETED
        )
        trainer.run([0], max_epochs=2)

    found = read(tmp_path)
    weights = found.Histograms("model/weights/weight")
    assert [event.step for event in weights] == [1, 2]
    assert (weights[0].histogram_value.num, weights[0].histogram_value.sum) == (6, 3.0)
    assert found.Histograms("model/weights/bias")[0].histogram_value.num == 1, "what is not finite has no place in it"
    assert found.Histograms("grads/weight")[0].histogram_value.max == 1.0
    assert found.Scalars("weights_max/weight")[0].value == 0.5


def test_a_histogram_is_of_the_moment_at_which_it_was_logged(tmp_path: Path) -> None:
    weight = torch.ones(4)
    with TensorboardLogger(log_dir=str(tmp_path)) as logger:
        logger.histograms(1, {("weight",): weight})
        logger.images(1, {("image",): (image := torch.zeros(1, 2, 2))})
        weight.fill_(7.0)
        image.fill_(1.0)

    found = read(tmp_path)
    assert found.Histograms("weight")[0].histogram_value.max == 1.0
    assert pixels(found.Images("image")[0].encoded_image_string).max() == 0


def pixels(encoded: bytes) -> torch.Tensor:
    numpy, image = pytest.importorskip("numpy"), pytest.importorskip("PIL.Image")
    return torch.from_numpy(numpy.array(image.open(io.BytesIO(encoded))))


def test_images_are_read_back_pixel_by_pixel(library: str, tmp_path: Path) -> None:
    color = torch.randint(256, (3, 4, 5), dtype=torch.uint8)
    gray = torch.tensor([[[0.0, 0.5, 1.0, 2.0, math.nan]]], dtype=torch.bfloat16)
    trainer = Engine(lambda engine, batch: None)
    with TensorboardLogger(log_dir=str(tmp_path)) as logger:
        handler = ImageHandler("image", lambda engine: {"color": color, "gray": gray})
        logger.attach(trainer, handler, Events.EPOCH_COMPLETED)
        trainer.run([0])

    found = read(tmp_path)
    assert torch.equal(pixels(found.Images("image/color")[0].encoded_image_string), color.permute(1, 2, 0))
    shown = pixels(found.Images("image/gray")[0].encoded_image_string)
    assert shown.reshape(5, -1)[:, 0].tolist() == [0, 128, 255, 255, 0]


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (torch.zeros(2, 2), ValueError, r"the image 'a/b' must be of shape \(C, H, W\) .* got \(2, 2\)"),
        (torch.zeros(5, 2, 2), ValueError, r"with 1, 3 or 4 channels, got \(5, 2, 2\)"),
        (torch.zeros(1, 2, 2, dtype=torch.int64), TypeError, "must be a tensor of floats .* got torch.int64"),
        ([[1]], TypeError, "got list"),
    ],
)
def test_what_is_no_image_is_refused_at_once(tmp_path: Path, image: Any, error: type[Exception], message: str) -> None:
    with TensorboardLogger(log_dir=str(tmp_path)) as logger, pytest.raises(error, match=message):
        logger.images(1, {("a", "b"): image})


def test_figures_and_text_are_read_back(library: str, tmp_path: Path) -> None:
    evaluator = Engine(lambda engine, batch: None)
    evaluator.state.metrics["cm"] = torch.tensor([[3, 1], [0, 2]])
    with TensorboardLogger(log_dir=str(tmp_path)) as logger:
        logger.attach(evaluator, FigureHandler("cm", confusion_matrix_figure("cm")), Events.COMPLETED)
        logger.attach(evaluator, TextHandler("note", lambda engine: "well *done*"), Events.COMPLETED)
        evaluator.run([0])

    found = read(tmp_path)
    shown = pixels(found.Images("cm")[0].encoded_image_string)
    assert shown.shape == (480, 640, 3)
    assert shown.float().std() > 10, "something is drawn"
    (tag,) = (tag for tag in found.Tags()["tensors"] if tag.startswith("note"))
    assert found.Tensors(tag)[0].tensor_proto.string_val == [b"well *done*"]


def test_methods_of_the_writer_are_found_through_the_logger(library: str, tmp_path: Path) -> None:
    with TensorboardLogger(log_dir=str(tmp_path)) as logger:
        logger.add_scalar("mine", 0.5, 3)
        logger.writer.add_scalar("mine", 0.25, 4)
        assert scalars(tmp_path) == {"mine": [(3, 0.5), (4, 0.25)]}, "at once"


def test_a_logger_that_was_closed_goes_on_in_the_same_file(library: str, tmp_path: Path) -> None:
    with TensorboardLogger(log_dir=str(tmp_path)) as logger:
        logger.scalars(1, {("value",): 0.5})
    logger.scalars(2, {("value",): 0.25})
    logger.close()

    assert scalars(tmp_path) == {"value": [(1, 0.5), (2, 0.25)]}
    assert len(list(tmp_path.iterdir())) == 1


def test_loggers_of_one_second_have_files_of_their_own(library: str, tmp_path: Path) -> None:
    for step in range(3):
        with TensorboardLogger(log_dir=str(tmp_path)) as logger:
            logger.scalars(step, {("value",): 0.5})

    assert len(list(tmp_path.iterdir())) == 3
    assert sorted(scalars(tmp_path)["value"]) == [(0, 0.5), (1, 0.5), (2, 0.5)], "files of one second have no order"


def test_no_thread_of_the_library_writes(library: str, tmp_path: Path) -> None:
    with TensorboardLogger(log_dir=str(tmp_path)) as logger:
        logger.add_scalar("mine", 0.5, 3)
        kinds = {type(thread).__name__ for thread in threading.enumerate()}

    assert not kinds & {"_EventLoggerThread", "_AsyncWriterThread"}


# --- a full disk ---


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system takes only so many bytes of a file, as if the disk were full; Python ignores the signal of it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_breaks_nothing_and_the_values_arrive_later(
    library: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file for what could not be written is on the same disk: what is refused there, too, waits in memory."""
    monkeypatch.setattr("ignite_contrib.loggers.delivery.background._STUCK_S", 0.001)
    unsent = tmp_path / "unsent.jsonl"
    trainer = Engine(lambda engine, batch: batch)
    logger = TensorboardLogger(log_dir=str(tmp_path / "run"), unsent=unsent)
    handler = OutputHandler("training", output_transform=lambda output: output)
    logger.attach(trainer, handler, Events.ITERATION_COMPLETED)
    trainer.run([1.0, 2.0])
    (path,) = (tmp_path / "run").iterdir()
    with files_of_at_most(path.stat().st_size + 100):
        state = trainer.run(range(3, 103))
        assert state.iteration == 100
        logger.flush()
    logger.add_scalar("mine", 0.5, 1)
    logger.close()

    expected = [(1, 1.0), (2, 2.0), *((step, float(step + 2)) for step in range(1, 101))]
    assert sorted(scalars(tmp_path / "run")["training/output"]) == sorted(expected)
    assert not unsent.exists()
    assert sum("accepts nothing at present" in record.message for record in caplog.records) >= 1
    assert all("File too large" in record.message for record in caplog.records)


def test_what_the_disk_never_took_stands_in_the_file_for_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unsent = tmp_path / "unsent.jsonl"
    logger = TensorboardLogger(log_dir=str(tmp_path / "run"), unsent=unsent)
    (path,) = (tmp_path / "run").iterdir()
    full = EventFile(Path("/dev/full"))
    own, logger.writer.file_writer.event_writer = logger.writer.file_writer.event_writer, full
    logger.scalars(1, {("value",): 0.5})
    logger.close()
    assert "No space left on device" in caplog.text
    assert "some values were not sent" in caplog.text
    assert unsent.exists()

    logger.writer.file_writer.event_writer = own
    logger.resend(unsent)
    assert scalars(tmp_path / "run") == {"value": [(1, 0.5)]}
    assert not unsent.exists()
    assert path.exists()


def test_methods_of_the_writer_wait_for_no_full_disk_either(library: str, tmp_path: Path) -> None:
    """The library's own writer hangs some ten events after the disk was full."""
    with TensorboardLogger(log_dir=str(tmp_path)) as logger:
        (path,) = tmp_path.iterdir()
        logger.flush()
        with files_of_at_most(path.stat().st_size):
            for step in range(50):
                logger.add_scalar("mine", 0.5, step)
        logger.flush()

    assert scalars(tmp_path) == {"mine": [(step, 0.5) for step in range(50)]}


def test_records_are_framed_as_tensorboard_does(library: str, tmp_path: Path) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    for number, data in enumerate((b"", b"abc", bytes(range(256)) * 20)):
        file, path = io.BytesIO(), tmp_path / str(number)
        RecordWriter(file).write(data)
        EventFile(path).add_event(SimpleNamespace(SerializeToString=lambda data=data: data))
        assert path.read_bytes() == file.getvalue()


# --- absence, and processes ---


def test_without_both_libraries_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ignite_contrib.loggers.tensorboard.find_spec", lambda name: None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboardX"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)

    with pytest.raises(
        ModuleNotFoundError, match=r"TensorboardLogger needs .*: pip install 'ignite-core\[tensorboard\]'"
    ):
        TensorboardLogger()


def test_a_program_that_closes_nothing_loses_nothing(tmp_path: Path) -> None:
    code = f"""
from ignite_contrib.loggers import TensorboardLogger
logger = TensorboardLogger(log_dir={str(tmp_path)!r})
for step in range(1000):
    logger.scalars(step, {{("value",): 0.5}})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=tmp_path)

    assert [step for step, _ in scalars(tmp_path)["value"]] == list(range(1000))

"""A run that is logged with one of the real clients, offline, and read back: python offline_clients.py NAME.

It needs that client and nothing of pytest; test_offline_clients.py starts it, in the client's own environment.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ignite_core.engine import Engine, Events
from ignite_core.handlers import (
    BaseLogger,
    BaseSaveHandler,
    Checkpoint,
    GradsScalarHandler,
    ImageHandler,
    TextHandler,
    WeightsHistHandler,
)

LOSSES = {2: 0.5, 4: 0.25}


def train(logger: BaseLogger, saver: BaseSaveHandler | None = None, histograms: bool = False) -> None:
    """Log the loss every other iteration, the accuracy of an evaluator, and whatever else there is."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
    model(torch.ones(1, 2)).sum().backward()
    trainer, evaluator = Engine(lambda engine, batch: 2 / batch), Engine(lambda engine, batch: None)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
    evaluator.add_event_handler(Events.STARTED, lambda: evaluator.state.metrics.update({"accuracy": 0.75}))
    logger.attach_output_handler(
        trainer, Events.ITERATION_COMPLETED(every=2), tag="training", output_transform=lambda loss: {"loss": loss / 2}
    )
    logger.attach_output_handler(evaluator, Events.COMPLETED, tag="validation", metric_names="all")
    logger.attach_opt_params_handler(trainer, Events.EPOCH_COMPLETED, optimizer=optimizer, tag="training")
    logger.attach(trainer, GradsScalarHandler(model, whitelist=["bias"]), Events.EPOCH_COMPLETED)
    logger.attach(trainer, ImageHandler("image", lambda engine: torch.rand(3, 4, 5)), Events.EPOCH_COMPLETED)
    logger.attach(trainer, TextHandler("note", lambda engine: "well done"), Events.EPOCH_COMPLETED)
    if histograms:
        logger.attach(trainer, WeightsHistHandler(model), Events.EPOCH_COMPLETED)
    if saver is not None:
        checkpoint = Checkpoint({"model": model}, saver, n_saved=2)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, checkpoint)
    trainer.run([1, 2, 3, 4])
    logger.close()


EXPECTED: dict[str, dict[int, float]] = {
    "training/loss": {2: 0.5, 4: 0.25},
    "validation/accuracy": {1: 0.75},
    "training/lr/group_0": {1: 0.125},
    "grads_norm/bias": {1: 1.0},
}


def clearml(folder: Path) -> None:
    from ignite_contrib.loggers import ClearMLLogger, ClearMLSaver

    ClearMLLogger.set_bypass_mode(True)
    logger = ClearMLLogger(project_name="project", task_name="task", auto_resource_monitoring=False)
    saver = ClearMLSaver(logger, dirname=folder / "checkpoints")
    session = Path(logger.get_task().get_offline_mode_folder())
    train(logger, saver, histograms=True)

    lines = (session / "metrics.jsonl").read_text().splitlines()
    events = [event for line in lines for event in json.loads(line)]
    numbers: dict[str, dict[int, float]] = {}
    for event in events:
        if event["type"] == "training_stats_scalar":
            numbers.setdefault(f"{event['metric']}/{event['variant']}", {})[event["iter"]] = event["value"]
    assert numbers == EXPECTED, numbers
    kinds = {(event["type"], event["metric"]) for event in events}
    assert ("training_debug_image", "image") in kinds, kinds
    assert ("plot", "weights/weight") in kinds or ("plot", "weights") in kinds, kinds
    assert "note/note [1]: well done" in (session / "log.jsonl").read_text()
    assert sorted(path.name for path in (folder / "checkpoints").glob("*.pt")) == ["model_3.pt", "model_4.pt"]


def neptune(folder: Path) -> None:
    from ignite_contrib.loggers import NeptuneLogger, NeptuneSaver

    logger = NeptuneLogger(
        project="work/space", mode="offline", capture_stdout=False, capture_stderr=False, capture_hardware_metrics=False
    )
    logger["parameters/lr"] = 0.125
    train(logger, NeptuneSaver(logger))

    (log,) = (folder / ".neptune").rglob("data-1.log")
    decoder, text, operations = json.JSONDecoder(), log.read_text(), []
    while text := text.lstrip():
        operation, end = decoder.raw_decode(text)
        operations.append(operation["obj"])
        text = text[end:]
    numbers: dict[str, dict[int, float]] = {}
    for operation in operations:
        if operation["type"] == "LogFloats" and operation["path"][0] != "monitoring":
            for value in operation["values"]:
                numbers.setdefault("/".join(operation["path"]), {})[value["step"]] = value["value"]
    assert numbers == EXPECTED, numbers
    found = {(operation["type"], "/".join(operation["path"])) for operation in operations}
    assert ("AssignFloat", "parameters/lr") in found
    assert ("LogStrings", "note") in found
    assert ("LogImages", "image") in found
    assert {("UploadFile", f"model_{step}.pt") for step in (1, 2, 3, 4)} <= found, found
    assert {("DeleteAttribute", f"model_{step}.pt") for step in (1, 2)} <= found, found


def polyaxon(folder: Path) -> None:
    from ignite_contrib.loggers import PolyaxonLogger

    logger = PolyaxonLogger(
        owner="me",
        project="project",
        is_offline=True,
        is_new=True,
        artifacts_path=str(folder),
        track_code=False,
        track_env=False,
        track_logs=False,
        collect_resources=False,
    )
    train(logger, histograms=True)

    for name, expected in EXPECTED.items():
        (path,) = (folder / "events" / "metric").glob(f"{name.replace('/', '__')}.plx")
        rows = [line.split("|") for line in path.read_text().splitlines()[1:]]
        assert {int(row[0]): float(row[2]) for row in rows} == expected, (name, rows)
    kinds: dict[str, Any] = {path.name: sorted(path.iterdir()) for path in (folder / "events").iterdir()}
    assert {"metric", "image", "text", "histogram"} <= kinds.keys(), kinds


def wandb(folder: Path) -> None:
    import wandb as client

    from ignite_contrib.loggers import WandBLogger, WandBSaver

    logger = WandBLogger(
        project="project", mode="offline", dir=str(folder), settings=client.Settings(console="off", silent=True)
    )
    logger.config.update({"lr": 0.125})
    logger.scalars(1, {("nan",): float("nan"), ("infinity",): float("inf"), ("word",): "good"})
    artifacts, log_artifact = {}, client.run.log_artifact
    client.run.log_artifact = lambda artifact, aliases: (
        artifacts.update({aliases[-1]: (artifact.name, artifact.metadata["step"], list(artifact.manifest.entries))})
        or log_artifact(artifact, aliases=aliases)
    )
    train(logger, WandBSaver(logger), histograms=True)
    client.teardown()  # the process that writes the file has ended then

    (path,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    rows = [row for row in map(history, wandb_records(path)) if row]
    steps = [row["_step"] for row in rows]
    assert steps == sorted(set(steps)), "no row hides another"
    numbers: dict[str, dict[int, float]] = {}
    for row in rows:
        for name in EXPECTED.keys() & row.keys():
            numbers.setdefault(name, {})[row["global_step"]] = row[name]
    assert numbers == EXPECTED, numbers
    assert [str(rows[0][name]) for name in ("nan", "infinity", "word")] == ["nan", "inf", "good"]
    found = {name: row for row in rows for name in row}
    assert len(found["weights/weight.values"]["weights/weight.values"]) == 64
    assert list((folder / "wandb").glob(f"offline-run-*/files/{found['image.path']['image.path']}"))
    assert found["note"]["note"] == "well done"
    defined = [record.metric for record in wandb_records(path) if record.WhichOneof("record_type") == "metric"]
    assert [(one.glob_name, one.step_metric) for one in defined] == [("*", "global_step")]
    name = next(iter(artifacts.values()))[0]
    assert name.startswith("model-")
    assert artifacts == {f"model_{step}.pt": (name, step, [f"model_{step}.pt"]) for step in (1, 2, 3, 4)}, artifacts


def wandb_records(path: Path) -> Iterator[Any]:
    """What stands in the file of a run: seven bytes, then blocks of 32 KiB, of records in one part or several."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = path.read_bytes(), 7, b""
    while at < len(data):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def history(record: Any) -> dict[str, Any]:
    """The values of a row, by name."""
    items = record.history.item if record.WhichOneof("record_type") == "history" else []
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


if __name__ == "__main__":
    {"clearml": clearml, "neptune": neptune, "polyaxon": polyaxon, "wandb": wandb}[sys.argv[1]](Path.cwd())
    print("read back")

"""MLflow: what is logged arrives at a real server, and a server that is away holds up nobody."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ignite_contrib.loggers import MLflowLogger
from ignite_contrib.loggers.delivery.spool import Spool
from ignite_contrib.loggers.mlflow import Names, short_timeout
from ignite_core.engine import Engine, Events
from ignite_core.handlers import OptimizerParamsHandler, OutputHandler
from tests.contrib.loggers.servers import Proxy, free_port, mlflow_server

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins without a run, in a folder of its own, and leaves mlflow as it was."""
    monkeypatch.chdir(tmp_path)
    uri = mlflow.get_tracking_uri()
    yield
    while mlflow.active_run() is not None:
        mlflow.end_run()
    mlflow.set_tracking_uri(uri)


def halves() -> Engine:
    """Its output is 1 / 2, 2 / 2, 3 / 2, … for data 1, 2, 3, …"""
    return Engine(lambda engine, batch: {"loss": batch / 2})


def attach(logger: MLflowLogger, engine: Engine) -> None:
    logger.attach_output_handler(
        engine, Events.ITERATION_COMPLETED, tag="training", output_transform=lambda output: output
    )


def history(url: str, run: str, name: str) -> list[tuple[int, float]]:
    """Steps and values that the server knows, as its client has them."""
    found = mlflow.MlflowClient(url).get_metric_history(run, name)
    return sorted((metric.step, metric.value) for metric in found)


def status(url: str, run: str) -> str:
    found: str = mlflow.MlflowClient(url).get_run(run).info.status
    return found


def test_what_is_logged_is_read_back_by_the_client_and_over_rest(mlflow_url: str) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.25)
    engine = halves()
    engine.state.metrics["recall"] = torch.tensor([0.5, 0.75])
    before = time.time()
    with MLflowLogger(mlflow_url) as logger:
        attach(logger, engine)
        logger.attach(engine, OutputHandler("validation", ["recall"]), Events.EPOCH_COMPLETED)
        logger.attach(engine, OptimizerParamsHandler(optimizer), Events.ITERATION_STARTED(every=2))
        engine.run([1, 2, 3])

    assert history(mlflow_url, logger.run, "training loss") == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert history(mlflow_url, logger.run, "validation recall 1") == [(1, 0.75)]
    assert history(mlflow_url, logger.run, "lr group_0") == [(2, 0.25)]
    query = f"run_id={logger.run}&metric_key=training%20loss"
    with urllib.request.urlopen(f"{mlflow_url}/api/2.0/mlflow/metrics/get-history?{query}") as answer:
        metrics = json.load(answer)["metrics"]
    assert [(int(metric["step"]), metric["value"]) for metric in metrics] == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert all(before <= int(metric["timestamp"]) / 1000 + 0.001 <= time.time() + 1 for metric in metrics)


def test_values_that_are_no_ordinary_numbers_arrive(mlflow_url: str) -> None:
    with MLflowLogger(mlflow_url) as logger:
        logger.scalars(0, {("nan",): math.nan, ("yes",): True, ("huge",): 10**400, ("least",): -math.inf})

    assert math.isnan(history(mlflow_url, logger.run, "nan")[0][1])
    assert history(mlflow_url, logger.run, "yes") == [(0, 1.0)]
    assert history(mlflow_url, logger.run, "huge")[0][1] > 1e308, "MLflow keeps the largest number instead"
    assert history(mlflow_url, logger.run, "least")[0][1] < -1e308


def test_names_that_mlflow_refuses_are_replaced_and_warned_of_once(
    mlflow_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with MLflowLogger(mlflow_url) as logger:
        for step in (1, 2):
            logger.scalars(step, {("recall@5",): 1.0, ("recall#5",): 2.0, ("a//b",): 3.0, ("x" * 300,): 4.0})
            logger.flush()

    known = mlflow.MlflowClient(mlflow_url).get_run(logger.run).data.metrics
    assert sorted(known.values()) == [1.0, 2.0, 3.0, 4.0], "no two of them have become one"
    assert history(mlflow_url, logger.run, "recall_5") == [(1, 1.0), (2, 1.0)]
    assert [line.getMessage().count("does not take") for line in caplog.records if "take" in line.getMessage()] == [
        1
    ] * 4


@pytest.mark.parametrize("name", ["", ".", "..", "/a", "a/", "a//b", "../a", "./a", "a\nb", "é", "a:b", "x" * 251])
def test_every_name_becomes_one_that_mlflow_takes(name: str) -> None:
    from mlflow.utils.validation import _validate_metric

    _validate_metric(Names()((name,)), 1.0, 0, 0)


def test_more_values_than_mlflow_takes_in_one_call_arrive_in_several(mlflow_proxy: Proxy) -> None:
    with MLflowLogger(mlflow_proxy.url) as logger:
        logger.scalars(1, {(f"m{number}",): number for number in range(2100)})

    known = mlflow.MlflowClient(mlflow_proxy.url).get_run(logger.run).data.metrics
    assert known == {f"m{number}": number for number in range(2100)}
    assert mlflow_proxy.calls.count("/api/2.0/mlflow/runs/log-batch") == 3


def test_many_values_go_in_few_calls(mlflow_proxy: Proxy) -> None:
    with MLflowLogger(mlflow_proxy.url) as logger:
        engine = halves()
        attach(logger, engine)
        engine.run(range(400))

    assert len(history(mlflow_proxy.url, logger.run, "training loss")) == 400
    assert mlflow_proxy.calls.count("/api/2.0/mlflow/runs/log-batch") <= 8


def test_parameters_arrive_whatever_they_are(mlflow_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with MLflowLogger(mlflow_url) as logger:
        logger.log_params({f"p{number}": number for number in range(250)})
        logger.log_params({"long": "x" * 7000, "bad#name": None})
        logger.log_param("p1", 2)

    known = mlflow.MlflowClient(mlflow_url).get_run(logger.run).data.params
    assert known == {**{f"p{number}": str(number) for number in range(250)}, "long": "x" * 6000, "bad_name": "None"}
    assert "the value of the parameter 'long' has 7000 characters, MLflow takes 6000" in caplog.text
    assert "the parameter 'p1' of this run is '1' already; '2' is not logged" in caplog.text


def test_what_mlflow_has_is_found_through_the_logger(mlflow_url: str, tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("weights")
    with MLflowLogger(mlflow_url) as logger:
        logger.set_tag("kind", "test")
        logger.log_artifact(str(tmp_path / "model.txt"))
        logger.log_metric("direct", 3, step=2)
        run = logger.active_run.info.run_id

    client = mlflow.MlflowClient(mlflow_url)
    assert run == logger.run
    assert client.get_run(run).data.tags["kind"] == "test"
    assert [file.path for file in client.list_artifacts(run)] == ["model.txt"]
    assert history(mlflow_url, run, "direct") == [(2, 3.0)]


def test_images_figures_and_texts_are_artifacts(mlflow_url: str, tmp_path: Path) -> None:
    figure_of = pytest.importorskip("matplotlib.figure").Figure
    read = pytest.importorskip("matplotlib.image").imread
    image = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 0.0]]])
    with MLflowLogger(mlflow_url) as logger:
        logger.images(1, {("seen", "first"): image})
        logger.figures(2, {("curve",): figure_of(figsize=(1, 1), dpi=20)})
        logger.texts(3, {("note",): "hello"})

    client = mlflow.MlflowClient(mlflow_url)
    names = sorted(file.path for file in client.list_artifacts(logger.run, "images") if file.path.endswith("png"))
    assert [name.split("+timestamp")[0] for name in names] == ["images/curve+step+2", "images/seen first+step+1"]
    back = read(client.download_artifacts(logger.run, names[1], str(tmp_path)))
    assert torch.equal(torch.as_tensor(back).permute(2, 0, 1), image)
    text = Path(client.download_artifacts(logger.run, "texts/note/3.txt", str(tmp_path)))
    assert text.read_text() == "hello"


def test_the_active_run_is_used_and_ended(mlflow_url: str) -> None:
    mlflow.set_tracking_uri(mlflow_url)
    parent = mlflow.start_run()
    child = mlflow.start_run(nested=True)
    with MLflowLogger() as logger:
        assert logger.run == child.info.run_id
        assert status(mlflow_url, logger.run) == "RUNNING"

    assert status(mlflow_url, child.info.run_id) == "FINISHED"
    assert mlflow.active_run().info.run_id == parent.info.run_id
    assert status(mlflow_url, parent.info.run_id) == "RUNNING"


def test_two_loggers_write_to_a_run_each(mlflow_url: str) -> None:
    first = MLflowLogger(mlflow_url)
    mlflow.start_run(nested=True)
    second = MLflowLogger(mlflow_url)
    for logger, value in ((first, 1.0), (second, 2.0)):
        logger.scalars(1, {("loss",): value})
    first.close()
    second.close()

    assert first.run != second.run
    assert history(mlflow_url, first.run, "loss") == [(1, 1.0)]
    assert history(mlflow_url, second.run, "loss") == [(1, 2.0)]
    assert (status(mlflow_url, first.run), status(mlflow_url, second.run)) == ("FINISHED", "FINISHED")


def test_a_run_that_raises_has_failed_and_has_its_values(mlflow_url: str) -> None:
    logger = MLflowLogger(mlflow_url)
    engine = Engine(lambda engine, batch: {"loss": 1 / batch})
    attach(logger, engine)
    with pytest.raises(ZeroDivisionError), logger:
        engine.run([2, 1, 0])

    assert status(mlflow_url, logger.run) == "FAILED"
    assert history(mlflow_url, logger.run, "training loss") == [(1, 0.5), (2, 1.0)]


def test_the_training_waits_for_no_answer(mlflow_proxy: Proxy) -> None:
    """The server answers nothing before the last step is done: nobody has waited for it."""
    logger = MLflowLogger(mlflow_proxy.url)
    engine = halves()
    attach(logger, engine)
    logger.log_params({"size": 1})
    mlflow_proxy.may_answer.clear()
    mlflow_proxy.is_asked.clear()
    before = len(mlflow_proxy.calls)

    @engine.on(Events.COMPLETED)
    def answer(engine: Engine) -> None:
        assert mlflow_proxy.is_asked.wait(30), "it was asked meanwhile"
        assert len(mlflow_proxy.calls) == before
        mlflow_proxy.may_answer.set()

    engine.run(range(1000))
    logger.close()

    assert len(history(mlflow_proxy.url, logger.run, "training loss")) == 1000


def test_a_slow_server_gets_everything(mlflow_proxy: Proxy) -> None:
    with MLflowLogger(mlflow_proxy.url) as logger:
        mlflow_proxy.delay_s = 0.5
        engine = halves()
        attach(logger, engine)
        engine.run(range(1000))
        mlflow_proxy.delay_s = 0

    assert len(history(mlflow_proxy.url, logger.run, "training loss")) == 1000


def test_a_server_that_goes_away_gets_everything_when_it_is_back(
    mlflow_proxy: Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unsent = tmp_path / "unsent.jsonl"
    logger = MLflowLogger(mlflow_proxy.url, unsent=unsent)
    engine = halves()
    attach(logger, engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=10), mlflow_proxy.stop)
    engine.run(range(100))

    assert engine.state.iteration == 100
    assert unsent.exists()
    mlflow_proxy.start()
    logger.close()
    assert not unsent.exists()
    steps = [step for step, _ in history(mlflow_proxy.url, logger.run, "training loss")]
    assert steps == list(range(1, 101))
    assert caplog.text.count("accepts nothing at present") == 1
    assert not {RETRIES, TIMEOUT} & os.environ.keys(), "the settings are as before"
    assert status(mlflow_proxy.url, logger.run) == "FINISHED"


@pytest.mark.nightly
@pytest.mark.skipif(os.environ.get("IGNITE_CORE_NIGHTLY") != "1", reason="starts a server twice: make nightly")
def test_a_real_server_that_is_killed_gets_everything_when_it_is_back(tmp_path: Path) -> None:
    server = mlflow_server(tmp_path)
    server.start()
    logger = MLflowLogger(server.url, unsent=tmp_path / "unsent.jsonl")
    engine = halves()
    attach(logger, engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=10), logger.flush)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=10), server.stop)
    engine.run(range(100))

    assert engine.state.iteration == 100
    assert (tmp_path / "unsent.jsonl").exists()
    server.start()
    logger.close()
    steps = [step for step, _ in history(server.url, logger.run, "training loss")]
    server.stop()
    assert steps == list(range(1, 101))


def test_what_a_run_could_not_send_is_sent_by_another_one_to_the_first(
    mlflow_proxy: Proxy, mlflow_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unsent = tmp_path / "unsent.jsonl"
    first = MLflowLogger(mlflow_proxy.url, unsent=unsent)
    mlflow_proxy.stop()
    first.scalars(1, {("loss",): 0.5})
    first.log_params({"seed": 1})
    first.close()

    assert mlflow.active_run() is None, "it has let go of the run"
    assert "status was not sent" in caplog.text
    assert status(mlflow_url, first.run) == "RUNNING"
    with MLflowLogger(mlflow_url) as second:
        second.resend(unsent)
    assert history(mlflow_url, first.run, "loss") == [(1, 0.5)]
    assert mlflow.MlflowClient(mlflow_url).get_run(first.run).data.params == {"seed": "1"}
    assert status(mlflow_url, first.run) == "FINISHED"
    assert not unsent.exists()
    assert mlflow.MlflowClient(mlflow_url).get_run(second.run).data.metrics == {}


def test_a_run_that_starts_without_the_server_is_logged_when_it_comes(
    mlflow_proxy: Proxy, mlflow_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    mlflow_proxy.stop()
    logger = MLflowLogger(mlflow_proxy.url)
    assert (logger.active_run, logger.run) == (None, "")
    engine = halves()
    attach(logger, engine)
    engine.run([1, 2])
    assert [line.levelname for line in caplog.records if line.name.startswith("ignite_contrib")] == ["WARNING"]

    mlflow_proxy.start()
    engine.run([1, 2], max_epochs=2)
    logger._outbox.close()
    assert [value for _, value in history(mlflow_url, logger.run, "training loss")] == [0.5, 1.0, 0.5, 1.0]
    logger.set_tag("late", "yes")
    assert mlflow.MlflowClient(mlflow_url).get_run(logger.run).data.tags["late"] == "yes"
    logger.close()
    assert logger.get_run(logger.run).info.status == "FINISHED"
    assert mlflow.active_run() is None


def test_a_server_that_never_answers_is_waited_for_no_longer_than_the_limit(
    mlflow_proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    logger = MLflowLogger(mlflow_proxy.url, unsent=tmp_path / "unsent.jsonl")
    assert logger.wait_s == 9, "and one second to end the run"
    monkeypatch.setattr(MLflowLogger, "wait_s", 0.1)
    mlflow_proxy.may_answer.clear()
    logger.scalars(1, {("loss",): 0.5})
    logger.close()

    lines = [json.loads(line) for line in (tmp_path / "unsent.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["scalars", "status"]
    assert mlflow.active_run() is None


def test_a_process_that_fails_has_a_run_that_has_failed(mlflow_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python notes the exception that nobody has caught before it calls what is to be done at its end."""
    logger = MLflowLogger(mlflow_url)
    monkeypatch.setattr(sys, "last_value", ValueError(), raising=False)
    logger._end_at_exit()
    monkeypatch.delattr(sys, "last_value")

    assert status(mlflow_url, logger.run) == "FAILED"


def test_a_mistake_in_the_address_is_raised_at_once() -> None:
    with pytest.raises(Exception, match="carrier-pigeon") as caught:
        MLflowLogger("carrier-pigeon://alice:S3CRET@here")
    assert "S3CRET" not in str(caught.value)


def test_a_full_disk_while_the_server_is_away_loses_nothing(
    mlflow_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Spool, records: Any) -> None:
        raise OSError(28, "No space left on device")

    logger = MLflowLogger(mlflow_proxy.url)
    engine = halves()
    attach(logger, engine)
    monkeypatch.setattr(Spool, "add", full)
    mlflow_proxy.stop()
    engine.run(range(50))
    mlflow_proxy.start()
    logger.close()

    assert len(history(mlflow_proxy.url, logger.run, "training loss")) == 50


def test_a_process_that_ends_without_the_server_ends_in_time(tmp_path: Path) -> None:
    """MLflow's own client would go on for minutes."""
    script = f"""
import time
from ignite_contrib.loggers.mlflow import MLflowLogger
from ignite_core.engine import Engine, Events

logger = MLflowLogger("http://127.0.0.1:{free_port()}", unsent="unsent.jsonl")
engine = Engine(lambda engine, batch: batch)
logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, tag="training", output_transform=lambda loss: loss)
engine.run(range(5))


"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "unsent.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert done.stderr.count("accepts nothing at present") == 1
    assert "some values were not sent" in done.stderr


def test_no_password_is_printed_or_kept_in_the_address(
    mlflow_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """MLflow prints the address of the run when it has ended."""
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
    mlflow.set_tracking_uri(mlflow_url.replace("http://", "http://alice:S3CRET%21@"))
    with MLflowLogger() as logger:
        logger.scalars(1, {("loss",): 0.5})

    assert history(mlflow_url, logger.run, "loss") == [(1, 0.5)]
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("alice", "S3CRET!")
    shown = "".join(capfd.readouterr()) + caplog.text
    assert "View run" in shown
    assert "S3CRET" not in shown + mlflow.get_tracking_uri()


def test_a_console_that_cannot_show_the_link_of_mlflow_stops_no_end(
    mlflow_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "false")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    with MLflowLogger(mlflow_url) as logger:
        logger.scalars(1, {("loss",): 0.5})

    assert status(mlflow_url, logger.run) == "FINISHED"


def test_what_mlflow_takes_beside_values_is_left_to_it(mlflow_url: str) -> None:
    other = mlflow.MlflowClient(mlflow_url).create_run("0").info.run_id
    with MLflowLogger(mlflow_url) as logger:
        logger.log_metrics({"loss": 0.5}, step=3, run_id=other)
        logger.log_params({"lr": 0.1}, run_id=other)
        logger.log_metric("loss", 0.25, 4, synchronous=True)
        logger.log_param("lr", 0.2, synchronous=True)

    assert history(mlflow_url, other, "loss") == [(3, 0.5)]
    assert history(mlflow_url, logger.run, "loss") == [(4, 0.25)]
    assert mlflow.MlflowClient(mlflow_url).get_run(logger.run).data.params == {"lr": "0.2"}


def test_a_refused_metric_or_image_stops_no_other_one(
    mlflow_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unsent = tmp_path / "unsent.jsonl"
    image = torch.rand(3, 2, 2)
    with MLflowLogger(mlflow_url, unsent=unsent) as logger:
        for step in range(1, 6):
            logger.scalars(step, {("loss",): 0.5, ("odd",): 1j if step == 2 else 1.0})
            logger.images(step, {("seen",): torch.zeros(3, 0, 0) if step == 3 else image})

    client = mlflow.MlflowClient(mlflow_url)
    assert [step for step, _ in history(mlflow_url, logger.run, "loss")] == [1, 2, 3, 4, 5]
    assert [step for step, _ in history(mlflow_url, logger.run, "odd")] == [1, 3, 4, 5]
    names = [file.path for file in client.list_artifacts(logger.run, "images") if file.path.endswith("png")]
    assert sorted(name.split("step+")[1][0] for name in names) == ["1", "2", "4", "5"]
    kept = [json.loads(line) for line in unsent.read_text().splitlines()]
    assert sorted((one["kind"], one["step"]) for one in kept) == [("images", 3), ("scalars", 2)]
    assert all(one["reason"] for one in kept)
    assert [record.levelname for record in caplog.records if record.name.startswith("ignite_contrib")] == ["ERROR"] * 2


def test_other_ranks_write_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ignite_core.distributed.utils.get_rank", lambda: 1)
    logger = MLflowLogger(f"http://127.0.0.1:{free_port()}")
    engine = halves()
    attach(logger, engine)
    engine.run([1])
    logger.log_params({"a": 1})
    logger.log_metrics({"a": 1})
    logger.set_tag("a", "b")
    logger.close()

    assert mlflow.active_run() is None
    assert logger.active_run is None


RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"


def test_mlflow_is_impatient_only_as_long_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RETRIES, raising=False)
    monkeypatch.delenv(TIMEOUT, raising=False)
    first, second = short_timeout(30), short_timeout(1)
    first.__enter__()
    second.__enter__()
    assert (os.environ[RETRIES], os.environ[TIMEOUT]) == ("0", "1")
    first.__exit__(None, None, None)
    assert (os.environ[RETRIES], os.environ[TIMEOUT]) == ("0", "1")
    second.__exit__(None, None, None)

    assert not {RETRIES, TIMEOUT} & os.environ.keys()


def test_what_the_user_has_set_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RETRIES, "3")
    monkeypatch.delenv(TIMEOUT, raising=False)
    with short_timeout(5):
        assert (os.environ[RETRIES], os.environ[TIMEOUT]) == ("3", "5")

    assert os.environ[RETRIES] == "3"
    assert TIMEOUT not in os.environ

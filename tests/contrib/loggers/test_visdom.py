"""Visdom: what is logged stands in windows of a real server, and a server that is away holds up nobody."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ignite_contrib.loggers import VisdomLogger
from ignite_contrib.loggers.delivery.spool import Spool
from ignite_contrib.loggers.visdom import (
    GradsScalarHandler,
    OptimizerParamsHandler,
    OutputHandler,
    WeightsScalarHandler,
)
from ignite_core import handlers
from ignite_core.engine import Engine, Events
from tests.contrib.loggers.servers import Proxy, Server, free_port, visdom_server

pytest.importorskip("visdom")


@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SERVER_URL", "PORT", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"VISDOM_{name}", raising=False)


@pytest.fixture
def env(request: pytest.FixtureRequest) -> str:
    """An environment of the server for each test."""
    name: str = request.node.name
    return name.replace("[", "_").replace("]", "")


def halves() -> Engine:
    """Its output is 1 / 2, 2 / 2, 3 / 2, … for data 1, 2, 3, …"""
    return Engine(lambda engine, batch: {"loss": batch / 2})


def attach(logger: VisdomLogger, engine: Engine) -> None:
    logger.attach_output_handler(
        engine, Events.ITERATION_COMPLETED, tag="training", output_transform=lambda output: output
    )


def windows(port: int, env: str) -> dict[str, Any]:
    """Those of an environment, by title, as the client of Visdom reads them."""
    reader = VisdomLogger(port=port, env=env).vis
    found = list(json.loads(reader.get_window_data(env=env)).values())
    by_title = {window["title"]: window for window in found}
    assert len(by_title) == len(found)
    return by_title


def points(window: dict[str, Any]) -> list[tuple[float, Any]]:
    (trace,) = window["content"]["data"]
    return list(zip(trace["x"], trace["y"], strict=True))


def test_each_name_is_a_window_with_its_curve(visdom: Server, env: str) -> None:
    engine = halves()
    engine.state.metrics["recall"] = torch.tensor([0.5, 0.75])
    with VisdomLogger(port=visdom.port, env=env) as logger:
        attach(logger, engine)
        logger.attach(engine, OutputHandler("validation", ["recall"], show_legend=True), Events.EPOCH_COMPLETED)
        engine.run([1, 2, 3])

    found = windows(visdom.port, env)
    assert sorted(found) == ["training/loss", "validation/recall/0", "validation/recall/1"]
    assert points(found["training/loss"]) == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert points(found["validation/recall/1"]) == [(1, 0.75)]
    layout = found["training/loss"]["content"]["layout"]
    assert layout["xaxis"]["title"] == "Events.ITERATION_COMPLETED"
    assert layout["yaxis"]["title"] == "training/loss"
    assert not layout["showlegend"]
    assert found["validation/recall/0"]["content"]["layout"]["showlegend"]
    assert found["training/loss"]["content"]["data"][0]["name"] == "training/loss"


def test_the_environment_is_saved(visdom: Server, env: str) -> None:
    with VisdomLogger(port=visdom.port, env=env) as logger:
        logger.scalars(1, {("loss",): 0.5})

    saved = json.loads((visdom.folder / f"{env}.json").read_text())
    assert [window["title"] for window in saved["jsons"].values()] == ["loss"]


def test_parameters_weights_and_gradients_are_curves(visdom: Server, env: str) -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.constant_(model.weight, 3.0)
    model(torch.ones(1, 2)).sum().backward()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    engine = halves()
    with VisdomLogger(port=visdom.port, env=env) as logger:
        for handler in (
            OptimizerParamsHandler(optimizer, show_legend=True),
            WeightsScalarHandler(model, torch.sum, tag="model", show_legend=True),
            GradsScalarHandler(model, torch.sum, show_legend=True),
        ):
            logger.attach(engine, handler, Events.EPOCH_COMPLETED)
        logger.attach_opt_params_handler(engine, Events.EPOCH_COMPLETED, optimizer, tag="other")
        engine.run([1])

    found = {title: points(window)[0] for title, window in windows(visdom.port, env).items()}
    assert found == {
        "lr/group_0": (1, 0.25),
        "other/lr/group_0": (1, 0.25),
        "model/weights_sum/weight": (1, 6.0),
        "grads_sum/weight": (1, 2.0),
    }
    assert windows(visdom.port, env)["grads_sum/weight"]["content"]["layout"]["showlegend"]


def test_handlers_of_the_core_log_here_too(visdom: Server, env: str) -> None:
    engine = halves()
    with VisdomLogger(port=visdom.port, env=env) as logger:
        handler = handlers.OutputHandler("training", output_transform=lambda output: output)
        logger.attach(engine, handler, Events.ITERATION_COMPLETED)
        engine.run([4])

    assert points(windows(visdom.port, env)["training/loss"]) == [(1, 2.0)]


def test_step_0_and_values_that_are_no_numbers_are_there(visdom: Server, env: str) -> None:
    values = [1.0, float("nan"), float("inf"), 10**400, True]
    with VisdomLogger(port=visdom.port, env=env) as logger:
        for step, value in enumerate(values):
            logger.scalars(step, {("x",): value})
        logger.scalars(0, {("never",): float("nan")})

    found = windows(visdom.port, env)
    assert points(found["x"]) == [(0, 1.0), (1, None), (2, None), (3, None), (4, 1.0)]
    assert points(found["never"]) == [(0, None)]
    assert "Infinity" not in (visdom.folder / f"{env}.json").read_text(), "a page could not read it"


def test_two_loggers_have_windows_of_their_own(visdom: Server, env: str) -> None:
    for value in (1.0, 2.0):
        with VisdomLogger(port=visdom.port, env=env) as logger:
            logger.scalars(1, {("loss",): value})

    found = json.loads(logger.vis.get_window_data(env=env)).values()
    assert sorted(points(window)[0] for window in found) == [(1, 1.0), (1, 2.0)]


def test_images_figures_histograms_and_texts_are_shown(visdom: Server, env: str) -> None:
    figure_of = pytest.importorskip("matplotlib.figure").Figure
    read = pytest.importorskip("matplotlib.image").imread
    image = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 0.0]]])
    with VisdomLogger(port=visdom.port, env=env) as logger:
        logger.images(1, {("seen",): torch.zeros(1, 1, 2)})
        logger.images(2, {("seen",): image})
        logger.figures(2, {("curve",): figure_of(figsize=(1, 1), dpi=20)})
        logger.histograms(2, {("weights",): torch.tensor([0.0, 0.0, 1.0, float("nan")]), ("one",): torch.ones(1)})
        logger.histograms(2, {("empty",): torch.empty(0)})
        logger.texts(1, {("note",): "a < b"})
        logger.texts(2, {("note",): "again"})

    found = windows(visdom.port, env)
    assert sorted(found) == ["curve, step 2", "note", "one, step 2", "seen, step 2", "weights, step 2"]
    png = base64.b64decode(found["seen, step 2"]["content"]["src"].partition(",")[2])
    assert torch.equal(torch.as_tensor(read(io.BytesIO(png))).permute(2, 0, 1)[:3], image)
    assert sum(found["weights, step 2"]["content"]["data"][0]["y"]) == 3
    assert found["note"]["content"] == "<b>1</b> a &lt; b<br><b>2</b> again"


@pytest.mark.parametrize("image", [torch.zeros(2, 2), torch.zeros(2, 3, 3), torch.zeros(3, 3, 3, dtype=torch.int64)])
def test_what_is_no_image_is_refused_at_once(visdom: Server, env: str, image: torch.Tensor) -> None:
    with pytest.raises((TypeError, ValueError), match=r"VisdomLogger: the image .seen. must be"):
        VisdomLogger(port=visdom.port, env=env).images(1, {("seen",): image})


def test_what_visdom_has_is_found_through_the_logger(visdom: Server, env: str) -> None:
    logger = VisdomLogger(port=visdom.port, env=env)
    window = logger.text("hello")

    assert logger.vis.win_exists(window)
    assert logger.env == env


def test_many_points_go_in_few_calls(visdom_proxy: Proxy, env: str) -> None:
    with VisdomLogger(port=visdom_proxy.port, env=env) as logger:
        engine = halves()
        attach(logger, engine)
        engine.run(range(400))

    assert len(points(windows(visdom_proxy.port, env)["training/loss"])) == 400
    assert visdom_proxy.calls.count("/update") <= 8


def test_the_training_waits_for_no_answer(visdom_proxy: Proxy, env: str) -> None:
    """The server answers nothing before the last step is done: nobody has waited for it."""
    logger = VisdomLogger(port=visdom_proxy.port, env=env)
    engine = halves()
    attach(logger, engine)
    visdom_proxy.may_answer.clear()

    @engine.on(Events.COMPLETED)
    def answer(engine: Engine) -> None:
        assert visdom_proxy.is_asked.wait(30), "it was asked meanwhile"
        assert visdom_proxy.calls == []
        visdom_proxy.may_answer.set()

    engine.run(range(1000))
    logger.close()

    assert len(points(windows(visdom_proxy.port, env)["training/loss"])) == 1000


def test_a_slow_server_gets_everything(visdom_proxy: Proxy, env: str) -> None:
    visdom_proxy.delay_s = 0.5
    with VisdomLogger(port=visdom_proxy.port, env=env) as logger:
        engine = halves()
        attach(logger, engine)
        engine.run(range(1000))

    visdom_proxy.delay_s = 0
    assert len(points(windows(visdom_proxy.port, env)["training/loss"])) == 1000


def test_a_server_that_is_killed_gets_everything_when_it_is_back(
    tmp_path: Path, env: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = visdom_server(tmp_path)
    server.start()
    unsent = tmp_path / "unsent.jsonl"
    logger = VisdomLogger(port=server.port, env=env, unsent=unsent)
    engine = halves()
    attach(logger, engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=10), logger.flush)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=10), server.stop)
    engine.run(range(100))

    assert engine.state.iteration == 100
    assert unsent.exists()
    server.start()
    logger.close()
    assert not unsent.exists()
    assert [x for x, _ in points(windows(server.port, env)["training/loss"])] == list(range(1, 101))
    assert caplog.text.count("accepts nothing at present") == 1
    server.stop()


def test_a_server_that_never_answers_is_waited_for_no_longer_than_the_limit(
    visdom_proxy: Proxy, env: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    logger = VisdomLogger(port=visdom_proxy.port, env=env, unsent=tmp_path / "unsent.jsonl")
    assert logger.wait_s == 10
    monkeypatch.setattr(VisdomLogger, "wait_s", 0.1)
    visdom_proxy.may_answer.clear()
    logger.scalars(1, {("loss",): 0.5})
    logger.close()

    assert len((tmp_path / "unsent.jsonl").read_text().splitlines()) == 1


def test_an_error_of_the_server_is_no_success(visdom: Server, env: str, tmp_path: Path) -> None:
    """The client of Visdom itself takes any answer for a good one."""
    logger = VisdomLogger(f"http://127.0.0.1:{visdom.port}/nowhere", port=1, env=env, unsent=tmp_path / "unsent.jsonl")
    logger.scalars(1, {("loss",): 1.0})
    logger.close()

    assert (tmp_path / "unsent.jsonl").exists()


def test_what_a_run_could_not_send_is_sent_by_another_one_to_its_windows(
    visdom_proxy: Proxy, env: str, tmp_path: Path
) -> None:
    unsent = tmp_path / "unsent.jsonl"
    first = VisdomLogger(port=visdom_proxy.port, env=env, unsent=unsent)
    first.scalars(1, {("loss",): 1.0})
    first.flush()
    visdom_proxy.stop()
    first.scalars(2, {("loss",): 2.0})
    first.close()

    visdom_proxy.start()
    VisdomLogger(port=visdom_proxy.port, env=env).resend(unsent)
    assert points(windows(visdom_proxy.port, env)["loss"]) == [(1, 1.0), (2, 2.0)]
    assert not unsent.exists()


def test_without_a_server_the_run_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unsent = tmp_path / "unsent.jsonl"
    logger = VisdomLogger(port=free_port(), unsent=unsent)
    engine = halves()
    attach(logger, engine)
    engine.run([1, 2, 3])
    logger.close()

    assert engine.state.iteration == 3
    assert [json.loads(line)["step"] for line in unsent.read_text().splitlines()] == [1, 2, 3]
    assert caplog.text.count("accepts nothing at present") == 1
    assert "Connection refused" in caplog.text


def test_without_a_server_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    logger = VisdomLogger(port=free_port())
    logger.scalars(1, {("loss",): 1.0})
    logger.close()

    assert capsys.readouterr().out == ""


def test_on_demand_a_run_does_not_start_without_a_server() -> None:
    port = free_port()
    with pytest.raises(RuntimeError, match=rf"there must be a Visdom server at localhost:{port}, got"):
        VisdomLogger(port=port, raise_exceptions=True)


def test_a_full_disk_while_the_server_is_away_loses_nothing(
    visdom_proxy: Proxy, env: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Spool, records: Any) -> None:
        raise OSError(28, "No space left on device")

    logger = VisdomLogger(port=visdom_proxy.port, env=env)
    engine = halves()
    attach(logger, engine)
    monkeypatch.setattr(Spool, "add", full)
    visdom_proxy.stop()
    engine.run(range(50))
    visdom_proxy.start()
    logger.close()

    assert len(points(windows(visdom_proxy.port, env)["training/loss"])) == 50


def test_the_server_is_that_of_the_environment(visdom: Server, env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISDOM_SERVER_URL", "http://127.0.0.1")
    monkeypatch.setenv("VISDOM_PORT", str(visdom.port))
    with VisdomLogger(env=env, raise_exceptions=True) as logger:
        logger.scalars(1, {("loss",): 1.0})

    assert points(windows(visdom.port, env)["loss"]) == [(1, 1.0)]


def test_offline_everything_goes_to_the_log_of_visdom(visdom: Server, env: str, tmp_path: Path) -> None:
    log = tmp_path / "visdom.log"
    with VisdomLogger(port=visdom.port, env=env, offline=True, log_to_filename=str(log)) as logger:
        logger.scalars(1, {("loss",): 1.0})
        logger.flush()
        logger.scalars(2, {("loss",): 2.0})

    VisdomLogger(port=visdom.port, env=env).replay_log(str(log))
    assert points(windows(visdom.port, env)["loss"]) == [(1, 1.0), (2, 2.0)]


def test_a_client_that_listens_is_there_on_demand(visdom: Server, env: str) -> None:
    logger = VisdomLogger(port=visdom.port, env=env, use_incoming_socket=True)
    assert logger.vis.socket_alive
    logger.vis.use_socket = False  # ends its thread


def test_a_refused_window_stops_no_other_one_and_no_point_comes_twice(
    visdom: Server, env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unsent = tmp_path / "unsent.jsonl"
    logger = VisdomLogger(port=visdom.port, env=env, unsent=unsent)
    line = logger._sender.line

    def refuse(*args: Any, **kwargs: Any) -> Any:
        if kwargs["name"] == "b":
            raise ValueError("too large")
        return line(*args, **kwargs)

    monkeypatch.setattr(logger._sender, "line", refuse)
    for step in (1, 2, 3):
        logger.scalars(step, {(name,): step / 2 for name in "abc"})
    logger.texts(1, {("note",): "text"})
    logger.close()

    found = windows(visdom.port, env)
    assert sorted(found) == ["a", "c", "note"]
    assert points(found["a"]) == points(found["c"]) == [(1, 0.5), (2, 1.0), (3, 1.5)]
    kept = [json.loads(line) for line in unsent.read_text().splitlines()]
    assert [(one["step"], one["values"][0][0], one["reason"]) for one in kept] == [
        (step, ["b"], "ValueError: too large") for step in (1, 2, 3)
    ]
    assert [record.levelname for record in caplog.records if record.name.startswith("ignite_contrib")] == ["ERROR"]


def test_other_ranks_write_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ignite_core.distributed.utils.get_rank", lambda: 1)
    logger = VisdomLogger(port=free_port(), raise_exceptions=True)
    engine = halves()
    attach(logger, engine)
    engine.run([1])
    logger.vis.line([1.0])
    logger.close()

    assert list(Path.cwd().iterdir()) == []

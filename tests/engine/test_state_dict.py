"""What is saved is enough to go on, at every event of a run; what cannot be right is refused as a whole."""

import copy
import io
import re
from typing import Any

import pytest
import torch

from ignite_core.engine import Engine, Events
from tests.engine.tracing import NoLength, Own, Trace, at, nothing, watch

DATA = [10, 20, 30]
PLACES = [
    (Events.STARTED, 1),
    *[(Events.EPOCH_STARTED, k) for k in (1, 2)],
    *[(event, k) for event in Events if event.name.startswith(("GET_BATCH", "ITERATION")) for k in range(1, 7)],
    *[(Events.EPOCH_COMPLETED, k) for k in (1, 2)],
    (Events.DATALOADER_STOP_ITERATION, 1),
    (Events.COMPLETED, 1),
]


def name(value: Any) -> str:
    return getattr(value, "name", str(value))


def saved_at(event: Any, k: int, engine: Engine, **run: Any) -> dict[str, Any]:
    """The state dict at the k-th firing of an event, taken by its last handler."""
    saved: list[dict[str, Any]] = []
    at(engine, event, k, lambda: saved.append(copy.deepcopy(dict(engine.state_dict()))))
    engine.run(**{"data": DATA, "max_epochs": 2, **run})
    return saved[0]


def resumed(saved: dict[str, Any], data: Any = DATA, **run: Any) -> tuple[Engine, Trace]:
    """A new engine that goes on from what was saved, where it was, and what it fires."""
    engine = Engine(nothing)
    engine.load_state_dict(saved)
    trace = watch(engine)
    engine.run(data, seed=0, **run)
    return engine, trace


# -------------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize(("event", "k"), PLACES, ids=name)
def test_saved_at_any_event_the_run_goes_on_with_what_was_not_done(event, k):
    """An iteration is done when its step has returned, an epoch when EPOCH_COMPLETED is fired."""
    engine = Engine(nothing)
    trace = watch(engine)
    saved = saved_at(event, k, engine)
    iterations = saved["iteration"]
    epochs = saved.get("epochs_done", iterations // 3)

    assert iterations == (k - 1 if event.name.startswith(("GET_BATCH", "ITERATION_STARTED")) else iterations)
    assert (saved["max_epochs"], saved["epoch_length"]) == (2, 3)
    if event is Events.COMPLETED or epochs == 2:
        assert (iterations, epochs) == (6, 2)
        return
    _, rest = resumed(saved)

    not_done = {"IS": iterations, "IC": iterations}
    uncut = [
        entry
        for entry in trace
        if (entry[0] in not_done and entry[2] > iterations)
        or (entry[0] == "EC" and entry[1] > epochs)
        or entry[0] == "C"
    ]
    assert [entry for entry in rest if entry[0] in ("IS", "IC", "EC", "C")] == uncut


@pytest.mark.parametrize(("event", "k"), PLACES, ids=name)
def test_a_round_trip_changes_nothing(event, k):
    saved = saved_at(event, k, Engine(nothing))
    engine = Engine(nothing)

    engine.load_state_dict(saved)

    assert dict(engine.state_dict()) == saved


@pytest.mark.parametrize("k", [1, 2])
def test_saved_at_the_end_of_an_epoch_the_rest_is_that_of_the_uncut_run(k):
    """Every event, batch and counter, for data that is the same each time."""

    def recording() -> tuple[Engine, list[Any]]:
        seen: list[Any] = []
        engine = Engine(lambda engine, batch: seen.append((engine.state.epoch, engine.state.iteration, batch)))
        return engine, seen

    engine, uncut = recording()
    saved = saved_at(Events.EPOCH_COMPLETED, k, engine, max_epochs=3)
    again, rest = recording()
    again.load_state_dict(saved)
    trace = watch(again)

    again.run(DATA)

    assert rest == uncut[3 * k :]
    assert trace[:2] == [("S", k, 3 * k), ("ES", k + 1, 3 * k)]
    assert trace[-1] == ("C", 3, 9)


def test_what_is_saved_is_plain_and_short():
    """Three numbers, where nothing out of the ordinary happened."""
    assert saved_at(Events.ITERATION_COMPLETED, 2, Engine(nothing)) == {
        "epoch_length": 3,
        "iteration": 2,
        "max_epochs": 2,
    }
    assert saved_at(Events.ITERATION_COMPLETED, 2, Engine(nothing), max_epochs=None, max_iters=5) == {
        "epoch_length": 3,
        "iteration": 2,
        "max_iters": 5,
    }


def test_an_engine_that_never_ran():
    engine = Engine(nothing)
    saved = engine.state_dict()
    assert saved == {"epoch_length": None, "iteration": 0, "max_epochs": None}

    engine.load_state_dict(saved)
    engine.run(DATA)

    assert engine.state.iteration == 3


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("skip", [False, True], ids=["", "skip"])
@pytest.mark.parametrize(
    ("cut_at", "event"),
    [
        (Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED(once=2)),
        (Events.ITERATION_COMPLETED, Events.TERMINATE_SINGLE_EPOCH),
        (Events.ITERATION_STARTED, Events.ITERATION_STARTED(once=2)),
        (Events.GET_BATCH_STARTED, Events.GET_BATCH_STARTED(once=1)),
    ],
    ids=name,
)
def test_what_is_left_of_an_epoch_that_was_cut_is_its_end(cut_at, event, skip, seed):
    """What follows is numbered as in the run that goes on at once."""
    engine, done = Engine(nothing), []
    whole = watch(engine)
    at(engine, cut_at, 2, lambda: engine.terminate_epoch(skip))
    at(engine, event, 1, lambda: done.append(len(whole)))
    saved = saved_at(event, 1, engine, seed=seed)
    _, trace = resumed(saved, max_epochs=2)

    epoch_is_over = skip and event is Events.TERMINATE_SINGLE_EPOCH
    assert trace[1 if epoch_is_over else 2 :] == whole[done[0] :]


def test_an_epoch_that_was_cut_is_cut_in_a_state_that_is_loaded_and_saved_again():
    engine = Engine(nothing)
    at(engine, Events.ITERATION_COMPLETED, 2, lambda: engine.terminate_epoch())
    saved = saved_at(Events.ITERATION_COMPLETED, 2, engine)
    again = Engine(nothing)
    again.load_state_dict(saved)

    assert again.state_dict() == saved
    assert saved_at(Events.STARTED, 1, again)["left"] == "terminate_epoch"


def test_saved_inside_an_epoch_that_follows_one_that_was_cut():
    engine = Engine(nothing)
    at(engine, Events.ITERATION_COMPLETED, 2, lambda: engine.terminate_epoch())

    saved = saved_at(Events.ITERATION_COMPLETED, 4, engine)

    assert (saved["iteration"], saved["epochs_done"], saved["epoch_iteration"]) == (4, 1, 2)

    again, trace = resumed(saved)
    assert [entry for entry in trace if entry[0] == "IC"] == [("IC", 2, 5)]
    assert (again.state.epoch, again.state.iteration) == (2, 5)


def test_a_run_that_was_terminated_in_mid_epoch_is_saved_where_it_stood():
    """Loaded elsewhere, it does the rest of that epoch."""
    engine = Engine(nothing)
    at(engine, Events.ITERATION_COMPLETED, 2, lambda: engine.terminate())
    engine.run(DATA, max_epochs=2)

    _, trace = resumed(engine.state_dict())

    assert [entry[1:] for entry in trace if entry[0] == "IC"] == [(1, 3), (2, 4), (2, 5), (2, 6)]


def test_a_length_that_is_not_known_yet():
    engine = Engine(nothing)

    saved = saved_at(Events.ITERATION_COMPLETED, 2, engine, data=NoLength(DATA))

    assert saved["epoch_length"] is None
    assert (saved["epochs_done"], saved["epoch_iteration"]) == (0, 2)

    _, trace = resumed(saved, DATA)
    assert [entry[1:] for entry in trace if entry[0] == "IC"] == [(1, 3), (2, 4), (2, 5), (2, 6)]


def test_a_run_by_iterations():
    saved = saved_at(Events.ITERATION_COMPLETED, 4, Engine(nothing), max_epochs=None, max_iters=8)

    engine, trace = resumed(saved)

    assert (engine.state.iteration, engine.state.max_epochs, engine.state.max_iters) == (8, None, 8)
    assert trace[-2:] == [("T", 3, 8), ("C", 3, 8)]


@pytest.mark.parametrize("limit", [{"max_epochs": 4}, {}])
def test_more_epochs_may_be_asked_for_after_loading(limit):
    engine, _ = resumed({"iteration": 3, "epoch_length": 3, "max_epochs": 2}, **limit)

    assert engine.state.epoch == limit.get("max_epochs", 2)


def test_epochs_without_a_batch_are_not_forgotten():
    """All of them may have been cut before their first iteration."""
    engine = Engine(nothing)
    engine.add_event_handler(Events.GET_BATCH_STARTED, lambda: engine.terminate_epoch())

    saved = saved_at(Events.EPOCH_COMPLETED, 2, engine, max_epochs=3)
    again = Engine(nothing)
    again.load_state_dict(saved)

    assert (again.state.epoch, again.state.iteration) == (2, 0)


def test_epochs_of_a_rank_without_data_are_not_forgotten(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    saved = saved_at(Events.EPOCH_COMPLETED, 2, Engine(nothing), data=[], max_epochs=3)

    engine, trace = resumed(saved, [])

    assert [letter for letter, _, _ in trace] == ["S", "ES", "EC", "C"]
    assert engine.state.epoch == 3


# ------------------------------------------------------------------------------------------------- keys of the user


def test_user_keys_are_saved_and_loaded():
    engine, other = Engine(nothing), Engine(nothing)
    for one in (engine, other):
        one.state_dict_user_keys.append("alpha")
    engine.state.alpha = [0.1]

    saved = engine.state_dict()
    other.load_state_dict(saved)

    assert list(saved) == ["epoch_length", "iteration", "max_epochs", "alpha"]
    assert other.state.alpha == [0.1]
    assert Engine(nothing).state_dict_user_keys == []


def test_own_counts_are_saved_where_there_are_any():
    """They find their events again, also those that are registered after loading."""

    def counted(engine: Engine) -> list[int]:
        seen: list[int] = []
        engine.add_event_handler(Own.ONE(every=2), lambda: seen.append(engine.state.iteration))
        return seen

    engine = Engine(lambda engine, batch: engine.fire_event(Own.ONE))
    engine.register_events(*Own)
    saved = saved_at(Events.EPOCH_COMPLETED, 1, engine)
    assert saved["event_counts"] == {"Own.ONE": 3}

    again = Engine(lambda engine, batch: engine.fire_event(Own.ONE))
    again.load_state_dict(saved)
    assert again.state_dict()["event_counts"] == {"Own.ONE": 3}, "kept although nobody knows the event yet"
    again.register_events(*Own)
    seen = counted(again)
    again.run(DATA)

    assert seen == [4, 6]


# --------------------------------------------------------------------------------------------------------- bad dicts

GOOD = {"iteration": 4, "epoch_length": 3, "max_epochs": 2, "alpha": 0.5}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epoch_length": ...}, ValueError, "'epoch_length' is missing"),
        ({"alpha": ...}, ValueError, "'alpha' is missing"),
        ({"iteration": ...}, ValueError, "exactly one of 'iteration' and 'epoch'"),
        ({"max_epochs": ...}, ValueError, "exactly one of 'max_epochs' and 'max_iters'"),
        ({"epoch": 1}, ValueError, "exactly one of 'iteration' and 'epoch'"),
        ({"max_iters": 9}, ValueError, "exactly one of 'max_epochs' and 'max_iters'"),
        ({"iteration": -1}, ValueError, "iteration must be at least 0, got -1"),
        ({"iteration": True}, TypeError, "iteration must be an integer, got True"),
        ({"iteration": 4.0}, TypeError, "iteration must be an integer, got 4.0"),
        ({"iteration": "4"}, TypeError, "iteration must be an integer, got '4'"),
        ({"iteration": None}, (TypeError, ValueError), "iteration"),
        ({"iteration": ..., "epoch": -2}, ValueError, "epoch must be at least 0, got -2"),
        ({"iteration": ..., "epoch": False}, TypeError, "epoch must be an integer, got False"),
        ({"iteration": ..., "epoch": None}, (TypeError, ValueError), "epoch"),
        ({"epoch_length": -3}, ValueError, "epoch_length must be at least"),
        ({"epoch_length": 0}, ValueError, "length"),
        ({"epoch_length": True}, TypeError, "epoch_length must be an integer, got True"),
        ({"epoch_length": None}, ValueError, "epoch_length"),
        ({"max_epochs": 0}, ValueError, "max_epochs must be at least 1, got 0"),
        ({"max_epochs": True}, TypeError, "max_epochs must be an integer, got True"),
        ({"iteration": 7}, ValueError, "max_epochs=2"),
        ({"iteration": 10}, ValueError, "max_epochs=2 is below the"),
        ({"max_epochs": ..., "max_iters": 3}, ValueError, "max_iters=3 is below the 4 already"),
        ({"max_epochs": ..., "max_iters": -3}, ValueError, "max_iters must be at least 1, got -3"),
        ({"epochs_done": 1, "epoch_iteration": 4}, ValueError, "epoch_iteration=4"),
        ({"epochs_done": 1, "epoch_iteration": 5}, ValueError, "epoch_iteration=5"),
        ({"epochs_done": -1, "epoch_iteration": 1}, ValueError, "epochs_done must be at least 0, got -1"),
        ({"epochs_done": 1, "epoch_iteration": -1}, ValueError, "epoch_iteration must be at least 0, got -1"),
        ({"epochs_done": True, "epoch_iteration": 1}, TypeError, "epochs_done must be an integer, got True"),
        ({"epochs_done": 3, "epoch_iteration": 1}, ValueError, "max_epochs=2 is below the"),
        ({"epochs_done": 1}, ValueError, "epoch_iteration"),
        ({"epoch_iteration": 1}, ValueError, "epochs_done"),
        ({"seed": "7"}, TypeError, "seed must be an integer, got '7'"),
        ({"data_pass": 3}, TypeError, "data_pass must be two integers, got 3"),
        ({"data_pass": [0, 1]}, ValueError, "data_pass[0] must be at least 1, got 0"),
        ({"data_pass": [1, -1]}, ValueError, "data_pass[1] must be at least 0, got -1"),
        ({"data_pass": [1, 10**12]}, ValueError, "data_pass=[1, 1000000000000] contradicts iteration=4"),
        ({"data_pass": [2**64, 1]}, ValueError, "data_pass[0] must fit into 64 bits, got one of 65"),
        ({"by_rank": [{"rank": 0, "world_size": 1, "data": 3}]}, TypeError, "the state of the data must be a mapping"),
        ({"by_rank": [{"rank": 0, "world_size": 1, "data": {}}]}, TypeError, "the state of the data must be a mapping"),
        ({"global_batch": 0}, ValueError, "global_batch must be at least 1, got 0"),
        ({"by_rank": 3}, TypeError, "by_rank must be a list of mappings, got int"),
        ({"by_rank": [{"rank": 0}]}, ValueError, "by_rank[0] must have a 'world_size', got ['rank']"),
        ({"by_rank": [{"rank": -1, "world_size": 1}]}, ValueError, "by_rank[0]['rank'] must be at least 0, got -1"),
        ({"event_counts": [1]}, TypeError, "event_counts must be a mapping, got list"),
        ({"event_counts": {"Own.ONE": -1}}, ValueError, "Own.ONE"),
        ({"event_counts": {"Own.ONE": True}}, TypeError, "Own.ONE"),
        ({"event_counts": {"Own.ONE": "3"}}, TypeError, "Own.ONE"),
    ],
    ids=str,
)
def test_a_bad_state_dict_names_the_key_and_leaves_the_engine_as_it_was(change, error, message):
    engine = Engine(lambda engine, batch: engine.fire_event(Own.ONE))
    engine.register_events(*Own)
    engine.state_dict_user_keys.append("alpha")
    engine.state.alpha = 0.1
    engine.run(DATA, max_epochs=2)
    before, state = dict(engine.state_dict()), repr(engine.state)
    saved = {key: value for key, value in {**GOOD, **change}.items() if value is not ...}

    with pytest.raises(error, match=re.escape(message)):
        engine.load_state_dict(saved)

    assert dict(engine.state_dict()) == before
    assert repr(engine.state) == state
    assert engine.run(DATA, max_epochs=2).iteration == 6


@pytest.mark.parametrize("saved", [None, [("iteration", 1)], 3], ids=str)
def test_what_is_no_state_dict(saved):
    with pytest.raises(TypeError, match="state_dict must be a mapping, got"):
        Engine(nothing).load_state_dict(saved)


@pytest.mark.parametrize(
    ("saved", "progress"),
    [
        ({"iteration": 0, "epoch_length": 3, "max_epochs": 2}, (0, 0)),
        ({"iteration": 0, "epoch_length": None, "max_epochs": 2}, (0, 0)),
        ({"epoch": 1, "epoch_length": 3, "max_epochs": 2}, (1, 3)),
        ({"epoch": 2, "epoch_length": 3, "max_iters": 7}, (2, 6)),
        ({"iteration": 5, "epoch_length": 3, "max_epochs": 2}, (1, 5)),
    ],
    ids=str,
)
def test_numbers_written_by_hand(saved, progress):
    """Iterations or epochs done, whichever is at hand."""
    engine = Engine(nothing)

    engine.load_state_dict(saved)

    assert (engine.state.epoch, engine.state.iteration) == progress


# ------------------------------------------------------------------------------------------------------------ results


def test_metrics_and_output_are_there_where_only_the_end_of_an_epoch_is_left():
    """A handler of EPOCH_COMPLETED that needs them would raise at every restart."""
    seen: list[Any] = []
    first = Engine(lambda engine, batch: {"loss": torch.tensor(float(batch), requires_grad=True), "n": (batch, None)})
    first.add_event_handler(Events.ITERATION_COMPLETED, lambda: first.state.metrics.update(mean=torch.tensor([0.5, 2])))
    saved = saved_at(Events.ITERATION_COMPLETED, 3, first)
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    engine = Engine(nothing)
    engine.load_state_dict(torch.load(file, weights_only=True))
    engine.add_event_handler(
        Events.EPOCH_COMPLETED(once=1), lambda: seen.append((engine.state.output, dict(engine.state.metrics)))
    )
    engine.run(DATA)

    [(output, metrics)] = seen
    assert (output["loss"].item(), output["n"], metrics["mean"].tolist()) == (30.0, (30, None), [0.5, 2.0])
    assert not output["loss"].requires_grad


@pytest.mark.parametrize(
    "output",
    [torch.zeros(2000), 2**80, {1: 2}, "x" * 2000, object(), torch.eye(2).to_sparse(), torch.zeros(1, device="meta")],
    ids=["large", "long", "no string for a key", "text", "object", "sparse", "meta"],
)
def test_what_is_large_or_loads_no_plain_file_is_left_out(output):
    engine = Engine(lambda engine, batch: [output])
    engine.run([1])
    if not getattr(output, "is_meta", False):
        engine.state.metrics["odd"] = output

    assert not {"output", "metrics"} & set(engine.state_dict())


def test_saved_results_do_not_change_with_what_is_written_later():
    loss = torch.zeros(())
    engine = Engine(lambda engine, batch: loss)
    engine.run([1])
    saved = engine.state_dict()
    loss += 1

    assert saved["output"].item() == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"left": "much"}, "left must be one of terminate_epoch, .*, got 'much'"),
        ({"begun": 3}, "begun must be one of STARTED, .*, got 3"),
        ({"metrics": [1]}, "metrics must be a mapping, got list"),
    ],
)
def test_what_cannot_be_right_about_the_place_is_refused(wrong, message):
    with pytest.raises((ValueError, TypeError), match=f"load_state_dict: {message}"):
        Engine(nothing).load_state_dict({"iteration": 1, "epoch_length": 3, "max_epochs": 2, **wrong})


def test_an_epoch_that_failed_before_its_length_was_known_can_be_saved_and_loaded():
    engine = Engine(nothing)
    place = {"iteration": 1, "epochs_done": 0, "epoch_iteration": 1, "epoch_length": None, "max_epochs": 1}
    engine.load_state_dict(place)
    with pytest.warns(UserWarning, match="inside an epoch"), pytest.raises(ValueError, match="at least one batch"):
        engine.run(iter([]))
    saved = engine.state_dict()
    Engine(nothing).load_state_dict(saved)

    assert (saved["iteration"], saved["epochs_done"], saved["epoch_iteration"]) == (1, 0, 0)


def test_a_message_names_the_first_of_ten_thousand_keys():
    with pytest.raises(ValueError, match=r"'k7'\] and 9992 more$") as caught:
        Engine(nothing).load_state_dict({f"k{number}": number for number in range(10_000)})

    assert len(str(caught.value)) < 200

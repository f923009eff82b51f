"""The network with state, its INT8 step graph, and what they must have in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kws_edge.model.step_graph import StepInterpreter
from kws_edge.model.tflite import FlatModel
from kws_edge.presets import preset

keras = pytest.importorskip("keras", exc_type=ImportError, reason="Keras is not installed here")
pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")

from firmware_export.states import with_hop  # noqa: E402
from host_tools.convert.step_graph import to_step_int8  # noqa: E402
from host_tools.networks.heeding import heeding_speech  # noqa: E402
from host_tools.networks.streaming import SCORE_OFFSET  # noqa: E402
from tests.models.make import step_levels, step_network  # noqa: E402

pytestmark = [pytest.mark.host, pytest.mark.xdist_group("training")]
FRONT_END = preset("logmel40")
STEP_FRAMES = 2
HOPS = (2, 4, 10, 20)


def states_of(network: keras.Model, n: int = 1) -> list[np.ndarray]:
    return [np.zeros((n, *state.shape[1:]), np.float32) for state in network.inputs[1:]]


@pytest.fixture(scope="module", params=["plain", "heeding"])
def network(request):
    """With and without the layers that lower scores after speech."""
    keras.utils.set_random_seed(4)
    network = step_network()
    if request.param == "plain":
        return network
    kernel, _ = network.get_layer("words").get_weights()
    network.get_layer("words").set_weights([kernel, np.full(3, SCORE_OFFSET)])
    return heeding_speech(network, 1, 3.0, FRONT_END)


@pytest.fixture(scope="module")
def levels() -> np.ndarray:
    return step_levels()


def run(graph: bytes, stream: np.ndarray, hop: int, kernels: str = "fast") -> np.ndarray:
    """Scores of all whole hops of a stream; shape (steps, n_words), int8."""
    interpreter = StepInterpreter(FlatModel(graph, "graph"), kernels=kernels).another(hop)
    hops = [stream[np.newaxis, at : at + hop, np.newaxis] for at in range(0, len(stream) - hop + 1, hop)]
    return np.concatenate([interpreter.invoke(levels)[0, :, 0] for levels in hops])


@pytest.fixture(scope="module")
def graph(network, levels) -> bytes:
    return to_step_int8(network, [levels], FRONT_END)


@pytest.fixture(scope="module")
def stream(levels) -> np.ndarray:
    return (levels - 128).astype(np.int8)


def test_float_network_answers_alike_in_pieces_and_at_once(network, levels):
    whole = network([levels[np.newaxis, :, np.newaxis], *states_of(network)])[0].numpy()
    states, pieces, at = states_of(network), [], 0
    for hop in (2, 10, 4, 100, 2) * 16:
        inputs = [levels[np.newaxis, at : at + hop, np.newaxis], *states]
        scores, *states = (output.numpy() for output in network(inputs))
        pieces.append(scores)
        at += hop
    pieces = np.concatenate(pieces, axis=1)
    assert pieces.shape[1] == at // STEP_FRAMES
    np.testing.assert_allclose(pieces, whole[:, : pieces.shape[1]], atol=1e-5)


def test_nothing_looks_ahead(network, levels):
    changed = levels.copy()
    changed[1000:] = 255 - changed[1000:]
    before, after = (
        network([x[np.newaxis, :, np.newaxis], *states_of(network)])[0].numpy()[0] for x in (levels, changed)
    )
    assert np.array_equal(before[:500], after[:500])
    assert not np.array_equal(before[500], after[500])


@pytest.mark.parametrize("kernels", ["fast", "builtin", "reference"])
def test_step_graph_gives_the_same_bytes_at_every_hop(graph, stream, kernels):
    whole = run(graph, stream, len(stream), kernels)
    assert len(np.unique(whole)) > 20
    for hop in HOPS:
        assert np.array_equal(run(graph, stream, hop, kernels), whole), hop


def test_step_graph_computes_what_the_float_network_does(network, graph, stream, levels):
    scores = network([levels[np.newaxis, :, np.newaxis], *states_of(network)])[0].numpy()[0, :, 0]
    scale = FlatModel(graph, "graph").outputs[0].scale
    int8 = (run(graph, stream, 10).astype(np.float32) + 128) * scale
    assert scores.std() > 0.5
    errors = np.abs(int8 - scores)
    assert errors.max() < 0.4 * scores.std()
    assert errors.mean() < 0.05 * scores.std()


@pytest.mark.parametrize("hop", HOPS)
def test_tflite_micro_gives_the_same_bytes(graph, stream, hop):
    micro = pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")
    whole = run(graph, stream, len(stream), "builtin")
    interpreter = micro.runtime.Interpreter.from_bytes(with_hop(FlatModel(graph, "graph"), hop).data)
    states = []
    for i in range(1, len(FlatModel(graph, "graph").inputs)):
        detail = interpreter.get_input_details(i)
        states.append(np.full(detail["shape"], detail["quantization_parameters"]["zero_points"][0], np.int8))
    heard = []
    for at in range(0, 600, hop):
        for i, value in enumerate([stream[np.newaxis, at : at + hop, np.newaxis], *states]):
            interpreter.set_input(value, i)
        interpreter.invoke()
        heard.append(interpreter.get_output(0)[0, :, 0])
        states = [interpreter.get_output(i).copy() for i in range(1, len(states) + 1)]
    heard = np.concatenate(heard)
    assert np.array_equal(heard, whole[: len(heard)])


def test_input_spans_the_front_ends_range_whatever_the_length(network, levels):
    """An input of scale 1 takes rounded levels as they are."""
    graph = to_step_int8(network, [np.minimum(levels[:105], 200)], FRONT_END)
    source = FlatModel(graph, "graph").inputs[0]
    assert (source.scale, source.zero_point) == (1.0, -128)


def test_graph_names_its_inputs_as_the_network_does(graph, network):
    assert [tensor.name for tensor in FlatModel(graph, "graph").inputs] == [tensor.name for tensor in network.inputs]
    assert len(graph) < 14000 + 4000 * (len(network.inputs) - 5)


@pytest.mark.parametrize("network", ["plain"], indirect=True)
def test_stored_graph_is_what_is_made_now(graph):
    """To the structure: weights differ in bits by the library's version."""
    stored = FlatModel((Path(__file__).parent / "models" / "step.tflite").read_bytes(), "stored")
    made = FlatModel(graph, "made")
    assert [t.shape for t in stored.tensors] == [t.shape for t in made.tensors]
    assert [op.name for op in stored.graphs[0].operators] == [op.name for op in made.graphs[0].operators]

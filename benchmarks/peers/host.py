"""Measures the workstation's tools: features of a dataset, training, export. They use all cores, unlike the rest."""

from __future__ import annotations

import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from benchmarks.peers.pairs import take_turns

_STEPS = 20
"""Batches of a measurement. Four of them may have been made during the other side's turn."""


def reference_model(path: Path) -> Path:
    """The reference system's network of 36 classes as INT8. Its weights are random, which does not change its speed."""
    if not path.exists():
        import keras

        from host_tools.convert.clip_graph import to_int8
        from host_tools.networks.models import build
        from kws_edge import Metadata, pack, preset

        keras.utils.set_random_seed(0)
        config = preset("reference")
        model = build("cnn_reference", config, 36)
        levels = np.random.default_rng(0).uniform(-14, 5, (16, *config.feature_shape, 1)).astype(np.float32)
        metadata = Metadata(labels=tuple(f"word{i}" for i in range(36)), frontend_config=config, name="cnn_reference")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(to_int8(model, levels, plain=True), metadata))
    return path


def feature_seconds(data: Path, counts: tuple[int, ...], cores: tuple[int, ...]) -> list[dict[str, float]]:
    """Seconds that training features take, by number of clips and of processes."""
    from host_tools.data.features import clip_features
    from kws_edge import preset

    config = preset("logmel40")
    found = sorted(p for p in data.rglob("*.wav") if p.stat().st_size <= 2 * config.clip_samples + 44)
    for path in found:
        path.read_bytes()  # fills the page cache
    rows = []
    for workers in cores:
        for n in counts:
            with tempfile.TemporaryDirectory() as cache:
                started = time.perf_counter()
                clip_features(list(islice(cycle(found), n)), config, cache=Path(cache), workers=workers)
                rows.append({"cores": workers, "clips": n, "seconds": time.perf_counter() - started})
    return rows


def training(data: Path, cache: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds a sample of training by ``kws-host train``, and by a bare Keras loop on tensors in memory."""
    import keras

    from host_tools.config import DataConfig, MixConfig, OptimConfig
    from host_tools.networks.models import build
    from host_tools.sampling.batches import Batches
    from host_tools.sampling.examples import load_examples
    from kws_edge import Model

    shipped = Model("commands12")
    negatives = data / "negatives"
    sources = DataConfig(
        clips=data / "speech_commands", speech=negatives / "speech", noise=negatives / "noise", cache=cache
    )
    settings = OptimConfig()
    examples = load_examples(sources, shipped.frontend_config, shipped.labels, seed=1)
    batches = Batches(examples, MixConfig(), batch_size=settings.batch_size, seed=1)
    model = build("residual", shipped.frontend_config, len(shipped.labels))
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    x, y = (keras.ops.convert_to_tensor(array) for array in batches.batch(0, 0))
    epoch = iter(batches.epoch(0, 10_000))

    def ours() -> float:
        started = time.perf_counter()
        for inputs, targets in islice(epoch, _STEPS):
            model.train_on_batch(inputs, targets, return_dict=True)
        return (time.perf_counter() - started) / _STEPS / settings.batch_size

    def bare() -> float:
        started = time.perf_counter()
        for _ in range(_STEPS):
            model.train_on_batch(x, y, return_dict=True)
        return (time.perf_counter() - started) / _STEPS / settings.batch_size

    ours(), bare()
    return take_turns({"ours": ours, "bare": bare}, rounds)


def export_seconds(reference: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds to write C arrays of the reference network, and a whole firmware folder of ``micro12``."""
    from firmware_export.c_array import write_c_array
    from firmware_export.export import prepare
    from firmware_export.manifest import write
    from kws_edge import Model

    def array() -> float:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            write_c_array(reference, folder)
            return time.perf_counter() - started

    def firmware() -> float:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            write(prepare(Model("micro12", kernels="builtin")), Path(folder) / "firmware")
            return time.perf_counter() - started

    return take_turns({"c_array": array, "firmware": firmware}, rounds)

"""Data-parallel training by Keras on JAX: every device gets a part of each batch, and all have the same weights.

Every process does the same as one process would do alone, with the same batches, and computes its part of each. What a
process writes goes to the run's folder on rank 0, and to a folder that is removed on other ranks.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from host_tools.devices.one import OneDevice
from host_tools.devices.precision import copied
from host_tools.errors import TrainingError
from host_tools.locks import locked
from kws_edge.files import scratch_folder
from kws_edge.text import counted

__all__ = ["DataParallel"]

_CARRIED = ("config.json", "log.csv", "last.keras", "best.keras")
"""What a training goes on from, in a run's folder and in those of its parts."""


class DataParallel(OneDevice):
    """Devices that share each batch.

    Parameters
    ----------
    devices : sequence of jax.Device
        As many of each process, in the order of processes.
    mixed : bool
        Whether models compute in mixed precision.
    """

    def __init__(self, devices: Sequence[jax.Device], *, mixed: bool = False) -> None:
        super().__init__(mixed=mixed)
        self.number, self.kind = len(devices), devices[0].device_kind
        self._first = jax.process_index() == 0
        self._distribution = keras.distribution.DataParallel(devices=list(devices), auto_shard_dataset=False)
        mesh = self._distribution.device_mesh.backend_mesh
        self._split = NamedSharding(mesh, PartitionSpec(self._distribution.batch_dim_name))
        self._whole = NamedSharding(mesh, PartitionSpec())
        self._everywhere = jax.jit(lambda array: array, out_shardings=self._whole)

    def described(self) -> dict[str, Any]:
        return {**super().described(), "kind": self.kind, "processes": jax.process_count()}

    @contextlib.contextmanager
    def folder(self, folder: Path) -> Iterator[Path]:
        with contextlib.ExitStack() as stack:
            if self._first:
                stack.enter_context(locked(folder))
            else:
                folder = Path(stack.enter_context(scratch_folder(tempfile.gettempdir()))) / folder.name
            content = self._from_first(_packed(folder) if self._first else b"")
            if not self._first:
                folder.mkdir()
                with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                    archive.extractall(folder, filter="data")
            yield folder

    def check(self, *, batch_size: int, minutes: float) -> None:
        if over := batch_size % self.number:
            fitting = max(n for n in range(1, self.number) if batch_size % n == 0)
            sizes = " or ".join(str(n) for n in (batch_size - over, batch_size - over + self.number) if n)
            raise TrainingError(
                f"a batch of {batch_size} cannot be split evenly over {self.number} devices: give --batch-size {sizes},"
                f" or {counted(fitting, 'device')} in all"
            )
        if minutes and jax.process_count() > 1:
            raise TrainingError("--minutes goes by the clock of one machine: give --epochs with --hosts")

    def check_same(self, facts: Mapping[str, str]) -> None:
        sums = [hashlib.sha256(facts[name].encode()).digest() for name in sorted(facts)]
        found = self._gathered(np.array([np.frombuffer(one, np.uint8) for one in sums]))
        for name, of_ranks in zip(sorted(facts), found.swapaxes(0, 1), strict=True):
            if other := [rank for rank, value in enumerate(of_ranks) if not np.array_equal(value, of_ranks[0])]:
                raise TrainingError(
                    f"{name}: rank {other[0]} has others than rank 0; give each machine the same files and programs"
                )

    def scope(self) -> contextlib.AbstractContextManager[None]:
        return self._distribution.scope()

    def placed(self, model: keras.Model) -> keras.Model:
        with self.scope():
            return self._copied(model)

    def local(self, model: keras.Model) -> keras.Model:
        copy = self._local_copy(model)
        copy.set_weights(model.get_weights())
        return copy

    @functools.cache  # noqa: B019  devices live as long as their process
    def _local_copy(self, model: keras.Model) -> keras.Model:
        copy = copied(model, mixed=self.mixed)
        copy.compile_from_config(model.get_compile_config())
        return copy

    def step(self, model: keras.Model, x: Any, y: np.ndarray, *, learning_rate: Any) -> dict[str, float]:
        rate = self._on_devices(self._whole, np.asarray(learning_rate, keras.config.floatx()))
        with self.scope():
            # Keras splits what a process gives over the devices of this process.
            x, y = jax.tree.map(self._part, (x, y))
            return super().step(model, x, y, learning_rate=rate)

    def answers(self, model: keras.Model, x: Any) -> np.ndarray:
        n = len(jax.tree.leaves(x)[0])

        def placed(array: np.ndarray) -> jax.Array:
            missing = -n % self.number
            padded = np.pad(array, [(0, missing), *[(0, 0)] * (array.ndim - 1)])
            return self._on_devices(self._split, self._part(padded))

        weights = [one.value for one in model.trainable_variables], [one.value for one in model.non_trainable_variables]
        return np.asarray(self._answering(model)(*weights, jax.tree.map(placed, x)))[:n]

    @functools.cache  # noqa: B019
    def _answering(self, model: keras.Model) -> Callable[..., jax.Array]:
        def answers(trainable: list, other: list, x: Any) -> jax.Array:
            return model.stateless_call(trainable, other, x, training=False)[0]

        return jax.jit(answers, out_shardings=self._whole)

    def _gathered(self, value: np.ndarray) -> np.ndarray:
        """What each process gives, shape (processes, *value.shape)."""
        here = self.number // jax.process_count()
        rows = self._on_devices(self._split, np.repeat(value[np.newaxis], here, axis=0))
        return np.asarray(self._everywhere(rows))[::here]

    def _from_first(self, content: bytes) -> bytes:
        """What rank 0 gives."""
        held = np.zeros(self._gathered(np.array(len(content)))[0], np.uint8)
        held[: len(content)] = np.frombuffer(content, np.uint8)
        return self._gathered(held)[0].tobytes()

    @staticmethod
    def _part(array: np.ndarray) -> np.ndarray:
        """This process's part of a batch."""
        rows = len(array) // jax.process_count()
        return array[rows * jax.process_index() :][:rows]

    @staticmethod
    def _on_devices(sharding: NamedSharding, array: Any) -> jax.Array:
        return jax.make_array_from_process_local_data(sharding, array)


def _packed(folder: Path) -> bytes:
    """The files of a run from which a training goes on."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in sorted(path for name in _CARRIED for part in ("", "*/") for path in folder.glob(part + name)):
            archive.add(path, path.relative_to(folder))
    return packed.getvalue()

"""Golden vectors: results of ``kws_edge`` with TFLite Micro's interpreter, against which the firmware is checked."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

import kws_edge
from firmware_export.arena import MicroInterpreter
from firmware_export.c_source import array, number
from kws_edge.audio.file import AudioFile
from kws_edge.detection.detector import Detection
from kws_edge.errors import AudioError
from kws_edge.model.model import Model
from kws_edge.spotter import Spotter, Step

__all__ = ["GoldenVectors", "default_recording"]

_CLIPS = 3
_SPACING = 2  # inferences between golden clips
_AUDIO_S = 2.0
_HOPS, _HOPS_S = 20, 10.0
"""Golden inferences of a network with state, at least, unless they take longer than this. They are all of the audio."""
_LONGEST_S = 60
"""Longest part of a recording that is used, in seconds. The board holds the posteriors of all of it."""


def default_recording() -> Path:
    """The stream of synthetic speech that comes with ``kws_edge``."""
    return Path(kws_edge.__file__).parent / "demo" / "stream.flac"


@dataclass(frozen=True)
class GoldenVectors:
    """Inputs and outputs of every stage on a recording."""

    recording: str
    bundled: bool
    """Whether the recording is the one that comes with ``kws_edge``."""
    audio: NDArray[np.int16]
    """shape (n,): the part of the recording around the model's surest posterior."""
    ends: NDArray[np.int64]
    """shape (clips,): number of samples of `audio` heard at each golden inference."""
    features: NDArray[np.int8]
    """shape (clips, input size): the model's input at these inferences."""
    posteriors: NDArray[np.int8]
    """shape (clips, output size): the model's output at these inferences."""
    stream_features: NDArray[np.int8]
    """shape (inferences, input size): the model's input at every inference on the whole recording."""
    stream: NDArray[np.int8]
    """shape (steps, labels): the model's output at every inference. A network with state gives several rows in each."""
    times: list[float]
    """Seconds of the recording heard when each row was computed."""
    detections: list[tuple[int, Detection]]
    """The detections in `stream`, each with the number of its row."""
    model: Model
    embeddings: NDArray[np.int8] | None = None
    """shape (clips, size): the model's second output at the golden inferences, if taught words need one."""
    scores: NDArray[np.float32] | None = None
    """shape (clips,), float32: score of the first taught word at these inferences."""

    @classmethod
    def of(cls, spotter: Spotter, recording: Path | None = None) -> GoldenVectors:
        """Run `spotter` on a recording. Its model must run in TFLite Micro's interpreter.

        Raises
        ------
        AudioError
            If the recording cannot be read, is too short, or is silence to the model's input.
        """
        path = recording or default_recording()
        model, c = spotter.model, spotter.model.frontend_config
        with AudioFile(path, sample_rate=c.sample_rate) as file:
            samples = _start_of(file, _LONGEST_S * c.sample_rate)
        length = max(round(_AUDIO_S * c.sample_rate), _least_samples(spotter))
        if len(samples) < length:
            raise AudioError(
                f"{path}: {len(samples) / c.sample_rate:.2f} s are too short for golden vectors; "
                f"give at least {length / c.sample_rate:.2f} s with a keyword in them"
            )
        whole = _inferences(spotter, samples)
        stream = np.concatenate([each.output for each in whole])
        steps = [step for each in whole for step in each.steps]
        times = [step.known_s for step in steps]
        detections = [(index, step.detection) for index, step in enumerate(steps) if step.detection]
        if detections:
            surest = max(detections, key=lambda found: found[1].score)[0]
        else:
            keywords = np.flatnonzero(spotter.detector.active)
            surest = int(stream[:, keywords].max(axis=1).argmax())
        stop = max(length, round(times[surest] * c.sample_rate))
        audio = samples[stop - length : stop]
        golden = _inferences(spotter, audio)
        if model.step is None:
            golden = golden[-1::-_SPACING][:_CLIPS][::-1]
        features = np.array([each.input for each in golden])
        frames = features.reshape(-1, c.n_mels)
        if (frames == frames[0]).all():
            raise AudioError(
                f"{path}: is silence to the model, and golden vectors of silence prove nothing; give a recording with "
                "keywords in it"
            )
        return cls(
            recording=path.name,
            bundled=recording is None,
            audio=audio,
            ends=np.array([round(each.steps[-1].known_s * c.sample_rate) for each in golden]),
            features=features,
            posteriors=np.array([each.output.ravel() for each in golden]),
            stream_features=np.array([each.input for each in whole]),
            stream=stream,
            times=times,
            detections=detections,
            model=model,
            embeddings=None if golden[0].second is None else np.array([each.second for each in golden]),
        )

    @property
    def bytes(self) -> int:
        """Size of the arrays of ``kws_vectors.c`` in bytes."""
        arrays = (self.audio, self.features, self.posteriors, self.stream)
        taught = sum(values.nbytes for values in (self.embeddings, self.scores) if values is not None)
        return sum(values.nbytes for values in arrays) + taught + 4 * len(self.ends) + 24 * (len(self.detections) + 1)

    def macros(self) -> dict[str, float]:
        """Constants for ``kws_config.h``, by name."""
        return {
            "KWS_VECTOR_SAMPLES": len(self.audio),
            "KWS_VECTOR_CLIPS": len(self.ends),
            "KWS_VECTOR_STEPS": len(self.stream),
            "KWS_VECTOR_DETECTIONS": len(self.detections),
        }

    def source(self) -> str:
        """The text of ``kws_vectors.c`` without its heading."""
        rate = self.model.frontend_config.sample_rate
        outputs = "KWS_N_LABELS" if self.model.step is None else "KWS_ANSWERS * KWS_N_LABELS"
        rows = [
            f"{{{step}, {self.model.labels.index(found.keyword)}, {number(found.score)}, "
            f"{round(found.start_s * rate)}, {round(found.end_s * rate)}}}"
            for step, found in self.detections
        ]
        return "\n".join(
            [
                '#include "kws_platform.h"\n#include "kws_vectors.h"\n',
                "#if KWS_SELF_TEST\n",
                array("const int16_t kws_vector_audio[KWS_VECTOR_SAMPLES]", self.audio),
                array("const uint32_t kws_vector_ends[KWS_VECTOR_CLIPS]", self.ends),
                array("const int8_t kws_vector_features[KWS_VECTOR_CLIPS][KWS_INPUT_SIZE]", self.features),
                array(f"const int8_t kws_vector_posteriors[KWS_VECTOR_CLIPS][{outputs}]", self.posteriors),
                array("const int8_t kws_vector_stream[KWS_VECTOR_STEPS][KWS_N_LABELS]", self.stream),
                array(
                    "const kws_vector_found kws_vector_detections[KWS_VECTOR_DETECTIONS + 1]",
                    [*rows, "{0, 0, 0.0f, 0, 0}"],
                ),
                *self._of_taught(),
                "#endif /* KWS_SELF_TEST */\n",
            ]
        )

    def _of_taught(self) -> list[str]:
        if self.embeddings is None or self.scores is None:
            return []
        return [
            array("const int8_t kws_vector_embeddings[KWS_VECTOR_CLIPS][KWS_EMBEDDING_SIZE]", self.embeddings),
            array("const float kws_vector_scores[KWS_VECTOR_CLIPS]", self.scores),
        ]


def _start_of(file: AudioFile, n: int) -> NDArray[np.int16]:
    blocks, heard = [np.empty(0, np.int16)], 0
    for block in file:
        blocks.append(block)
        heard += len(block)
        if heard >= n:
            break
    return np.concatenate(blocks)[:n]


@dataclass(frozen=True)
class _Inference:
    """Input and output of the model, and what came of them."""

    input: NDArray[np.int8]
    """shape (input size,)"""
    output: NDArray[np.int8]
    """shape (answers, labels)"""
    second: NDArray[np.int8] | None
    """The second output, shape (size,), if there is one."""
    steps: list[Step]
    """One for each answer."""


def _inferences(spotter: Spotter, samples: NDArray[np.int16]) -> list[_Inference]:
    """All inferences on a stream of these samples."""
    micro = cast(MicroInterpreter, spotter.model.interpreter)
    found = []
    spotter.reset()
    for _, steps in groupby(spotter.process_steps(samples), key=lambda step: step.known_s):
        assert spotter.input is not None and micro.output is not None
        taken, given = spotter.input.flatten(), micro.output.reshape(-1, len(spotter.model.labels))
        second = None if micro.second is None else micro.second.ravel()
        found.append(_Inference(taken, given, second, list(steps)))  # the list begins the next inference
    return found


def _least_samples(spotter: Spotter) -> int:
    """Samples of golden audio in which there are enough inferences."""
    c = spotter.model.frontend_config
    step_samples = spotter.step_frames * c.hop_length
    if spotter.model.step is not None:
        hops = min(_HOPS, round(_HOPS_S * c.sample_rate) // step_samples)
        return c.frame_length + max(_CLIPS, hops) * step_samples
    return c.clip_samples + (_CLIPS * _SPACING + 1) * step_samples

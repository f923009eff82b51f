"""Golden vectors: results of ``kws_edge`` with TFLite Micro's interpreter, against which the firmware is checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import kws_edge
from firmware_export.c_source import array, number
from kws_edge.audio.file import AudioFile
from kws_edge.detection.detector import Detection
from kws_edge.errors import AudioError
from kws_edge.model.model import Model
from kws_edge.model.quantization import quantize
from kws_edge.spotter import Spotter

__all__ = ["GoldenVectors", "default_recording"]

_CLIPS = 3
_SPACING = 2  # inferences between golden clips
_AUDIO_S = 2.0
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
    """shape (clips, labels): the model's output at these inferences."""
    stream_features: NDArray[np.int8]
    """shape (steps, input size): the model's input at every inference on the whole recording."""
    stream: NDArray[np.int8]
    """shape (steps, labels): the model's output at every inference on the whole recording."""
    times: list[float]
    """Seconds of the recording heard at every inference."""
    detections: list[tuple[int, Detection]]
    """The detections in `stream`, each with the number of its inference."""
    model: Model

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
        step_samples = spotter.step_frames * c.hop_length
        length = max(round(_AUDIO_S * c.sample_rate), c.clip_samples + (_CLIPS * _SPACING + 1) * step_samples)
        if len(samples) < length:
            raise AudioError(
                f"{path}: {len(samples) / c.sample_rate:.2f} s are too short for golden vectors; "
                f"give at least {length / c.sample_rate:.2f} s with a keyword in them"
            )
        inputs, stream, detections, times = [], [], [], []
        for index, step in enumerate(_fresh(spotter).process_steps(samples)):
            inputs.append(_input_of(spotter))
            stream.append(_quantized(model, step.posteriors))
            times.append(step.time_s)
            if step.detection:
                detections.append((index, step.detection))
        if detections:
            surest = max(detections, key=lambda found: found[1].score)[0]
        else:
            keywords = np.flatnonzero(spotter.detector.active)
            surest = int(np.array(stream)[:, keywords].max(axis=1).argmax())
        stop = max(length, round(times[surest] * c.sample_rate))
        audio = samples[stop - length : stop]
        heard = [
            (round(step.time_s * c.sample_rate), _input_of(spotter), step.posteriors)
            for step in _fresh(spotter).process_steps(audio)
        ][-1::-_SPACING][:_CLIPS][::-1]
        features = np.array([features for _, features, _ in heard])
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
            ends=np.array([end for end, _, _ in heard]),
            features=features,
            posteriors=np.array([_quantized(model, posteriors) for _, _, posteriors in heard]),
            stream_features=np.array(inputs),
            stream=np.array(stream),
            times=times,
            detections=detections,
            model=model,
        )

    @property
    def bytes(self) -> int:
        """Size of the arrays of ``kws_vectors.c`` in bytes."""
        arrays = (self.audio, self.features, self.posteriors, self.stream)
        return sum(values.nbytes for values in arrays) + 4 * len(self.ends) + 24 * (len(self.detections) + 1)

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
                array("const int8_t kws_vector_posteriors[KWS_VECTOR_CLIPS][KWS_N_LABELS]", self.posteriors),
                array("const int8_t kws_vector_stream[KWS_VECTOR_STEPS][KWS_N_LABELS]", self.stream),
                array(
                    "const kws_vector_found kws_vector_detections[KWS_VECTOR_DETECTIONS + 1]",
                    [*rows, "{0, 0, 0.0f, 0, 0}"],
                ),
                "#endif /* KWS_SELF_TEST */\n",
            ]
        )


def _start_of(file: AudioFile, n: int) -> NDArray[np.int16]:
    blocks, heard = [np.empty(0, np.int16)], 0
    for block in file:
        blocks.append(block)
        heard += len(block)
        if heard >= n:
            break
    return np.concatenate(blocks)[:n]


def _fresh(spotter: Spotter) -> Spotter:
    spotter.reset()
    return spotter


def _input_of(spotter: Spotter) -> NDArray[np.int8]:
    """The model's input at the last inference, shape (input size,)."""
    assert spotter.input is not None
    return spotter.input.flatten()


def _quantized(model: Model, posteriors: NDArray[np.floating]) -> NDArray[np.int8]:
    scale = model.output.scale
    assert scale is not None  # every INT8 model has a scale
    return quantize(posteriors, scale, model.output.zero_point)

"""The whole chain: samples in, detections out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from kws_edge.config import DetectorConfig
from kws_edge.detector import Detection, Detector
from kws_edge.frontend import StreamingFrontend, to_int16
from kws_edge.model import Model
from kws_edge.timing import DETECTOR, FRONT_END, INVOKE, OFF, QUANTISE, Stopwatch

__all__ = ["Spotter", "Step"]


@dataclass(frozen=True)
class Step:
    """One inference on a stream."""

    time_s: float
    """End of the window, in seconds from the start of the stream."""
    posteriors: np.ndarray
    """shape (len(labels),), float32"""
    detection: Detection | None


class Spotter:
    """Keyword detection on a stream of blocks of any size.

    The stream is taken to be preceded by silence, so that a word at its very beginning is heard. Detections do not
    depend on how the stream is cut into blocks.

    Parameters
    ----------
    model : Model
    detector : DetectorConfig, optional
        In place of the model's own.
    """

    def __init__(self, model: Model, *, detector: DetectorConfig | None = None) -> None:
        self.model = model
        self.stopwatch: Stopwatch = OFF
        """Times the stages of each inference, where it is also the source's."""
        self.config = detector or model.detector
        c = model.front_end
        hop_s = c.hop_length / c.sample_rate
        self.step_frames = max(1, round(self.config.step_ms / 1000 / hop_s))
        """Frames from one inference to the next."""
        self.step_s = self.step_frames * hop_s
        """Seconds from one inference to the next."""
        self._frontend = StreamingFrontend(c)
        self._silence = self._frontend.silence()
        # Samples that wait until they complete an inference.
        self._held = np.empty(c.frame_length + self.step_frames * c.hop_length, np.int16)
        self.detector = Detector(model.labels, self.config, step_s=self.step_s, clip_s=c.clip_samples / c.sample_rate)
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._frontend.reset()
        self.detector.reset()
        self.levels = np.tile(self._silence, (self.model.front_end.n_frames, 1))
        """The last clip's frames, shape (n_frames, n_mels), float32, before resizing."""
        self._until_step = self.step_frames
        self._start = 0  # the sample of the stream that the front end's first one is
        self._taken = 0  # samples that the front end has been given
        self._n_held = 0
        self.n_samples = 0
        """Samples of the stream so far, those that were skipped included."""

    def skip(self, samples: int) -> None:
        """That many samples of the stream were lost: the clock skips them, and detection starts anew, as after silence,
        so that nothing is detected across the gap."""
        n = self.n_samples + samples
        self.reset()
        self._start = self.n_samples = n

    def follow(self, source: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The blocks of `source`, for :meth:`steps`; what the source has lost is skipped on the way."""
        lost = getattr(source, "lost", 0)
        for block in source:
            if (now := getattr(source, "lost", 0)) > lost:
                self.skip(now - lost)
                lost = now
            yield block

    def steps(self, samples: np.ndarray) -> Iterator[Step]:
        """Take a block; yield each inference that it completes."""
        samples = to_int16(samples)
        c = self.model.front_end
        for start in range(0, len(samples), c.sample_rate):  # at most a second at a time, to bound memory
            block = samples[start : start + c.sample_rate]
            self.n_samples += len(block)
            first = self._frontend.n_frames
            held = self._n_held + len(block)
            if len(block) < self.samples_to_step:  # one call of the front end for a step costs a fifth of many
                self._held[self._n_held : held] = block
                self._n_held = held
                continue
            frames = self._frontend.process(np.concatenate([self._held[: self._n_held], block]))
            self._taken += held
            self._n_held = 0
            used = 0
            while len(frames) - used >= self._until_step:
                self._push(frames[used : used + self._until_step])
                used += self._until_step
                self._until_step = self.step_frames
                end = (first + used - 1) * c.hop_length + c.frame_length
                yield self._infer((self._start + end) / c.sample_rate)
            self._push(frames[used:])
            self._until_step -= len(frames) - used

    @property
    def samples_to_step(self) -> int:
        """Samples that complete the next inference."""
        c = self.model.front_end
        end = (self._frontend.n_frames + self._until_step - 1) * c.hop_length + c.frame_length
        return end - self._taken - self._n_held

    def process(self, samples: np.ndarray) -> list[Detection]:
        """Take a block; return what is detected in it.

        Parameters
        ----------
        samples : numpy.ndarray, shape (n,), int16 or floating in [-1, 1)
            Mono, at the model's sample rate.
        """
        return [step.detection for step in self.steps(samples) if step.detection]

    def finish(self) -> Iterator[Step]:
        """End the stream: follow it by silence, so that a word at its very end is heard; yield those inferences."""
        heard = self.n_samples
        duration = heard / self.model.front_end.sample_rate
        watch, self.stopwatch = self.stopwatch, OFF  # this silence does not arrive
        for step in self.steps(np.zeros(self.model.front_end.clip_samples, np.int16)):
            found = step.detection
            if found:
                found = dataclasses.replace(found, end_s=min(found.end_s, duration))
            yield dataclasses.replace(step, detection=found)
        self.n_samples, self.stopwatch = heard, watch

    def run(self, source: Iterable[np.ndarray]) -> Iterator[Step]:
        """Every inference on a source of blocks, to its end; what the source has lost is skipped."""
        want = getattr(source, "want", None)
        for block in self.follow(source):
            yield from self.steps(block)
            if want:
                want(self.samples_to_step / self.model.front_end.sample_rate)
        yield from self.finish()

    def features(self) -> np.ndarray:
        """What the next inference would see, shape front_end.feature_shape, float32."""
        return self._frontend.resize(self.levels)

    def _push(self, frames: np.ndarray) -> None:
        n = len(frames)
        if n >= len(self.levels):
            self.levels[:] = frames[n - len(self.levels) :]
        elif n:
            self.levels[:-n] = self.levels[n:]
            self.levels[-n:] = frames

    def _infer(self, time_s: float) -> Step:
        watch, model = self.stopwatch, self.model
        features = self.features()
        watch.lap(FRONT_END)
        q = model.quantize(features)
        watch.lap(QUANTISE)
        q = model.interpreter.invoke(q)
        watch.lap(INVOKE)
        posteriors = model.dequantize(q)
        watch.lap(QUANTISE)
        found = self.detector.process(posteriors, time_s)
        if found:  # its window may begin before the stream does, or in a gap
            start_s = self._start / model.front_end.sample_rate
            found = dataclasses.replace(found, start_s=max(found.start_s, start_s))
        watch.lap(DETECTOR)
        watch.stop()
        return Step(time_s, posteriors, found)

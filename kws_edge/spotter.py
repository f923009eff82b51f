"""The whole chain from samples to detections."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kws_edge.audio.source import Source
from kws_edge.config import DetectorConfig
from kws_edge.detection.detector import Detection, Detector
from kws_edge.diagnostics.latency import DETECTOR, OFF, Stopwatch
from kws_edge.errors import AudioError
from kws_edge.features.frontend import FrameStream, to_int16
from kws_edge.model.interpreter import Interpreter
from kws_edge.model.model import Model
from kws_edge.model.stream import stream_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kws_edge.teach.listener import TaughtListener
    from kws_edge.teach.words import TaughtWords
    from kws_edge.voice.me import Me

__all__ = ["Spotter", "Step", "detector_of"]


class Step(NamedTuple):
    """Posteriors of a stream at a time: one an inference, or of a network with state several.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge import Model, Spotter
    >>> steps = list(Spotter(Model("commands12")).steps([np.zeros(16000, np.int16)]))
    >>> steps[-1].posteriors.shape, steps[-1].detection is None
    ((12,), True)
    """

    time_s: float
    """End of the window that they are of, in seconds from the start of the stream."""
    posteriors: NDArray[np.float32]
    """Posterior of each label, shape (len(labels),), float32."""
    detection: Detection | None
    """Detection at this inference, if there was one."""
    known_s: float
    """The time at which they are known: the end of the last frame that was heard with them."""


def detector_of(model: Model, config: DetectorConfig) -> Detector:
    """Make a detector for the posteriors of `model` on a stream.

    Raises
    ------
    ConfigError
        As :class:`kws_edge.Detector` does.
    """
    c = model.frontend_config
    answer_s = model.answer_frames(model.hop_frames(config.step_ms)) * c.hop_length / c.sample_rate
    return Detector(
        model.labels,
        config,
        step_s=answer_s,
        clip_s=c.clip_samples / c.sample_rate,
        independent=model.step is not None,
    )


class Spotter:
    """Keyword detection on a stream of blocks of any size.

    :meth:`detections` hears a whole source. :meth:`process` takes blocks as you have them, and :meth:`flush` ends their
    stream. If you need every inference, use :meth:`steps`, :meth:`process_steps` and :meth:`flush_steps` instead.

    The spotter assumes silence before the stream, so that it hears a word at the very beginning. Detections do not
    depend on how the stream is cut into blocks.

    Parameters
    ----------
    model : Model
        One model may serve several streams that take turns.
    detector_config : DetectorConfig, optional
        Settings to use instead of `model.detector_config`, which were tuned for the model. To change one setting, give
        ``dataclasses.replace(model.detector_config, wake_word="stop")``. ``DetectorConfig(wake_word="stop")`` would
        drop the tuned settings.
    taught : kws_edge.TaughtWords, optional
        Words that were taught to `model`, to detect beside its own. If none was taught, they change nothing.
    only_me : kws_edge.Me, optional
        Leave out detections that do not sound like this voice. This is convenience, not security.

    Attributes
    ----------
    detector : kws_edge.Detector
        The detector of this stream.
    taught : kws_edge.teach.listener.TaughtListener or None
        What hears the taught words.
    only_me : kws_edge.voice.me.MeListener or None
        What leaves out the words of others.

    Raises
    ------
    ConfigError
        If the settings cannot work with this model.

    Examples
    --------
    >>> from importlib.resources import files
    >>> from kws_edge import AudioFile, Model, Spotter
    >>> model = Model("commands12")
    >>> spotter = Spotter(model)
    >>> recording = files("kws_edge") / "demo/stream.flac"
    >>> with AudioFile(recording, sample_rate=model.frontend_config.sample_rate) as source:
    ...     detections = list(spotter.detections(source))
    >>> [detection.keyword for detection in detections[:4]]
    ['yes', 'left', 'stop', 'right']

    The same in blocks of your own:

    >>> with AudioFile(recording, sample_rate=model.frontend_config.sample_rate) as source:
    ...     samples = source.read_all()
    >>> spotter.reset()
    >>> found = spotter.process(samples[:40000]) + spotter.process(samples[40000:]) + spotter.flush()
    >>> found == detections
    True
    """

    def __init__(
        self,
        model: Model,
        *,
        detector_config: DetectorConfig | None = None,
        taught: TaughtWords | None = None,
        only_me: Me | None = None,
    ) -> None:
        self.model = model
        self.stopwatch: Stopwatch = OFF
        """Measures the stages of each inference. Set the source's stopwatch to the same object."""
        self.detector_config = detector_config or model.detector_config
        c = model.frontend_config
        self.step_frames = model.hop_frames(self.detector_config.step_ms)
        """Frames from one inference to the next."""
        self.step_s = self.step_frames * c.hop_length / c.sample_rate
        """Seconds from one inference to the next."""
        self._rate, self._hop, self._frame = c.sample_rate, c.hop_length, c.frame_length
        self._frontend = FrameStream(c, frontend=model.frontend)
        self.taught: TaughtListener | None = taught.listener(self.step_s, self.detector_config) if taught else None
        self.only_me = only_me.listener(self.detector_config, self.step_frames) if only_me else None
        interpreter = self.taught.interpreter if self.taught else None
        self._stream = stream_of(model, self.step_frames, interpreter)
        self.answer_s = model.answer_frames(self.step_frames) * c.hop_length / c.sample_rate
        """Seconds from one posterior to the next. A network with state gives several in each inference."""
        answers = round(self.step_s / self.answer_s)
        self._behind_s = tuple(behind * self.answer_s for behind in range(answers - 1, -1, -1))
        self.detector = detector_of(model, self.detector_config)
        self.keywords = (*self.detector.keywords, *(self.taught.names if self.taught else ()))
        """Every word that can be detected: the model's active ones, then the taught ones."""
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._frontend.reset()
        self._stream.reset()
        self.detector.reset()
        if self.taught:
            self.taught.reset()
        if self.only_me:
            self.only_me.reset()
        self._start = 0  # position in the stream of the front end's first sample
        self.n_samples = 0
        """Samples of the stream so far, including skipped ones."""

    def threshold_of(self, keyword: str) -> float:
        """The threshold that the score of `keyword`, the model's own or a taught one, has to reach."""
        taught = self.taught.thresholds if self.taught else {}
        return taught.get(keyword, self.detector_config.threshold_of(keyword))

    @property
    def input(self) -> NDArray[Any] | None:
        """Input of the latest inference, with the input tensor's dtype. It is valid until the next one."""
        return self._stream.input

    @property
    def interpreter(self) -> Interpreter:
        """The interpreter of this stream."""
        return self._stream.interpreter

    @property
    def frames(self) -> NDArray[np.float32]:
        """Features of the frames that the latest inference added, shape (step_frames, n_mels), float32.

        With `n_mfcc` they have that many columns.
        """
        return self._stream.frames

    def skip(self, samples: int) -> None:
        """Say that `samples` samples of the stream were lost.

        The clock skips them. Detection starts anew, as after silence, so that nothing is detected across the gap.
        """
        n = self.n_samples + samples
        self.reset()
        self._start = self.n_samples = n

    def follow(self, source: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Yield the blocks of `source` for :meth:`process_steps`. Samples that a :class:`Source` lost are skipped.

        Raises
        ------
        AudioError
            If `source` has another sample rate than the model, or is an array instead of blocks.
        """
        if not isinstance(source, Source):
            if isinstance(source, np.ndarray) and source.ndim < 2:
                raise AudioError("an array is one block: give it to process(), or to detections() in a list")
            yield from source
            return
        if source.sample_rate != self._rate:
            raise AudioError(
                f"{source.name}: gives {source.sample_rate!r} Hz, but this model hears {self._rate} Hz; open it with "
                f"sample_rate={self._rate}"
            )
        lost = source.lost_samples
        for block in source:
            if source.lost_samples > lost:
                self.skip(source.lost_samples - lost)
                lost = source.lost_samples
            yield block

    def detections(self, source: Iterable[NDArray[Any]]) -> Iterator[Detection]:
        """Yield the detections in a source as soon as they are made. The source is a new stream, heard to its end.

        Parameters
        ----------
        source : Source, or iterable of numpy.ndarray
            A :class:`kws_edge.AudioFile`, a :class:`kws_edge.Microphone`, a :class:`kws_edge.Source` of your own, or
            blocks of samples as for :meth:`process`. Samples that a source loses are skipped.

        Raises
        ------
        AudioError
            If the source fails, or has another sample rate than the model.
        """
        return (step.detection for step in self.steps(source) if step.detection)

    def steps(self, source: Iterable[NDArray[Any]]) -> Iterator[Step]:
        """Yield every inference on a source, as :meth:`detections` does."""
        self.reset()
        want = source.want if isinstance(source, Source) else None
        for block in self.follow(source):
            yield from self.process_steps(block)
            if want:
                want(self.samples_to_step / self._rate)
        yield from self.flush_steps()

    def process_steps(self, samples: NDArray[Any]) -> Iterator[Step]:
        """Take a block, as :meth:`process` does; yield each inference that it completes.

        Take all inferences before you give the next block.
        """
        samples = to_int16(samples)
        for start in range(0, len(samples), self._rate):  # at most a second at a time, to limit memory
            block = samples[start : start + self._rate]
            self.n_samples += len(block)
            first = self._frontend.n_frames
            rows = self._frontend.process(block, multiple=self.step_frames)
            for used in range(self.step_frames, len(rows) + 1, self.step_frames):
                end = (first + used - 1) * self._hop + self._frame
                yield from self._infer(rows[used - self.step_frames : used], (self._start + end) / self._rate)

    @property
    def samples_to_step(self) -> int:
        """Samples that are missing for the next inference."""
        return self._frontend.samples_to(self.step_frames)

    def process(self, samples: NDArray[Any]) -> list[Detection]:
        """Take a block; return the detections in it.

        Parameters
        ----------
        samples : numpy.ndarray, shape (n,), int16 or floating in [-1, 1)
            Mono, at the model's sample rate.

        Raises
        ------
        AudioError
            If the samples are not mono, have another type, or are not numbers.
        """
        return [step.detection for step in self.process_steps(samples) if step.detection]

    def flush(self) -> list[Detection]:
        """End the stream with silence, so that a word at the very end is heard; return the last detections.

        :meth:`reset` starts the next stream.
        """
        return [step.detection for step in self.flush_steps() if step.detection]

    def flush_steps(self) -> Iterator[Step]:
        """End the stream, as :meth:`flush` does; yield the last inferences."""
        heard = self.n_samples
        duration = heard / self._rate
        watch, self.stopwatch = self.stopwatch, OFF  # this silence has no arrival time
        for step in self.process_steps(np.zeros(self.model.frontend_config.clip_samples, np.int16)):
            found = step.detection
            if found:
                found = dataclasses.replace(found, end_s=min(found.end_s, duration))
            yield step._replace(detection=found)
        self.n_samples, self.stopwatch = heard, watch

    def _infer(self, rows: NDArray[np.float32], time_s: float) -> list[Step]:
        watch = self.stopwatch
        answers = self._stream.posteriors(rows, watch)
        steps = []
        every = self.detector.process_all(answers, time_s)
        if self.taught:  # then there is one answer at a time
            every = [self.taught.hear(every[0], time_s, self.detector)]
        if self.only_me:
            every = self.only_me.own(every, rows, self.detector)
        for behind_s, posteriors, found in zip(self._behind_s, answers, every):  # noqa: B905  strict costs time here
            if found:  # its window may begin before the stream does, or in a gap
                found = dataclasses.replace(found, start_s=max(found.start_s, self._start / self._rate))
            steps.append(Step(time_s - behind_s, posteriors, found, time_s))
        watch.lap(DETECTOR)
        watch.stop()
        return steps

"""The report of ``kws-host stream-eval``: a table, JSON, pictures, and the sounds of mistakes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from host_tools.evaluation.mistakes import MOST
from host_tools.evaluation.stream_audio import Condition, Stream
from host_tools.evaluation.stream_inference import hear_all
from host_tools.evaluation.stream_mistakes import StreamMistakes
from host_tools.evaluation.stream_plots import plot_det, plot_timeline
from host_tools.evaluation.stream_replay import THRESHOLDS, score_heard
from host_tools.evaluation.stream_results import Result
from host_tools.locks import locked
from kws_edge.config import DetectorConfig, FrontendConfig
from kws_edge.files import explained, write_atomically
from kws_edge.model.model import Model
from kws_edge.text import counted

__all__ = ["StreamReport", "evaluate_streams"]


@dataclass(frozen=True)
class StreamReport:
    """Results of :func:`evaluate_streams`."""

    model: Model
    config: DetectorConfig
    streams: tuple[Stream, ...]
    lengths_s: tuple[float, ...]
    results: tuple[Result, ...]
    rtf: float
    """Processor time of front end, network and detector, divided by the length of the audio."""

    def to_dict(self) -> dict[str, Any]:
        """The results as a JSON-ready dict."""
        return {
            "model": self.model.metadata.name or self.model.path,
            "detector": self.config.to_dict(),
            "streams": [
                {"file": str(s.path), "labels": s.labels and str(s.labels), "seconds": round(length, 3)}
                for s, length in zip(self.streams, self.lengths_s, strict=True)
            ],
            "rtf": round(self.rtf, 5),
            "conditions": [result.to_dict() for result in self.results],
        }

    def table(self) -> str:
        """The results for people."""
        c, first = self.config, self.results[0].score
        thresholds = ", ".join(f"{word} {value:g}" for word, value in c.thresholds.items())
        lines = [
            f"{self.model.metadata.name} on {counted(len(self.streams), 'stream')} of {first.hours:.3g} h with"
            f" {counted(first.words, 'keyword')}; threshold {c.threshold:g}"
            + (f" ({thresholds})" if thresholds else "")
            + f", smoothing {c.smoothing_ms:g} ms, refractory {c.refractory_ms:g} ms, step {c.step_ms:g} ms",
            f"one core takes {3600 * self.rtf:.0f} s for an hour of stream (RTF {self.rtf:.4f})",
        ]
        for result in self.results:
            lines += ["", *result.table()]
        return "\n".join(lines)

    def write(self, folder: str | Path, *, progress: Callable[..., Any] = tqdm) -> None:
        """Write ``report.json``, ``det.png``, ``timeline.png`` and ``false_accepts/*.wav``.

        Sounds of an earlier report in `folder` are removed.

        Raises
        ------
        WriteError
            If the folder cannot be written.
        """
        folder, lengths = Path(folder), [(str(s.path), n) for s, n in zip(self.streams, self.lengths_s, strict=True)]
        with locked(folder, wait=True):
            write_atomically(folder / "report.json", json.dumps(self.to_dict(), indent=1) + "\n")
            write_atomically(folder / "det.png", lambda path: plot_det(self.results, self.model.metadata.name, path))
            write_atomically(folder / "timeline.png", lambda path: plot_timeline(self.results, lengths, path))
            with explained(folder / "false_accepts"):
                self._mistakes.write_false_accepts(folder / "false_accepts", progress=progress)

    def write_errors(self, folder: str | Path, *, most: int = MOST, progress: Callable[..., Any] = tqdm) -> str:
        """Write the sounds of missed words, confusions and false accepts; see :meth:`StreamMistakes.write`."""
        return self._mistakes.write(folder, most=most, progress=progress)

    @property
    def _mistakes(self) -> StreamMistakes:
        return StreamMistakes(self.model, self.config, self.streams, self.results)


def evaluate_streams(
    model: str | Path,
    streams: Sequence[Stream],
    *,
    config: DetectorConfig | None = None,
    conditions: Sequence[Condition] = (Condition(),),
    thresholds: Sequence[float] = THRESHOLDS,
    kernels: str = "fast",
    labels: Sequence[str] | None = None,
    frontend_config: FrontendConfig | None = None,
    workers: int | None = None,
    progress: Callable[..., Any] = tqdm,
) -> StreamReport:
    """Hear every stream under every condition and score it.

    Other parameters are those of :func:`hear_all`.

    Parameters
    ----------
    config : DetectorConfig, optional
        Settings that replace the model's own.
    conditions : sequence of Condition
        The first condition must take all streams. Each other one must take at least one.
    """
    loaded = Model(model, labels=labels, frontend_config=frontend_config, kernels=kernels)
    config = config or loaded.detector_config
    every = hear_all(
        model,
        streams,
        config,
        conditions=conditions,
        thresholds=thresholds,
        kernels=kernels,
        labels=labels,
        frontend_config=frontend_config,
        workers=workers,
        progress=progress,
    )
    results, heard = [], iter(every)
    for condition in conditions:
        numbers = [number for number, stream in enumerate(streams) if condition.takes(stream)]
        taken = [streams[number] for number in numbers]
        part = list(itertools.islice(heard, len(taken)))
        tracks = [h.track for h in part]
        sweep = tuple(
            (threshold, score_heard(taken, tracks, [h.swept[i] for h in part], config))
            for i, threshold in enumerate(thresholds)
        )
        score = score_heard(taken, tracks, [h.detections for h in part], config)
        results.append(Result(condition, score, sweep, dict(zip(numbers, tracks, strict=True))))
    audio_s = sum(h.track.duration_s for h in every)
    return StreamReport(
        loaded,
        config,
        tuple(streams),
        tuple(h.track.duration_s for h in every[: len(streams)]),
        tuple(results),
        sum(h.cpu_s for h in every) / audio_s,
    )

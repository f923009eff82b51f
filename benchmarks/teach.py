"""Measures words taught from 5 and from 10 recordings, against two other ways to detect them.

    python -m benchmarks.teach DATA -o benchmarks/teach
    python -m benchmarks.teach DATA --words independent -o benchmarks/teach-independent

DATA holds `speech_commands`, `independent` and `negatives`. The words trained neither the encoder nor, as words of
their own, the model; :mod:`benchmarks.teach_words` names them. Each way sees the same recordings:

- taught: kws_edge.teach, as `kws-edge teach` and `listen --taught` do.
- DTW: the distance of the best of the takes by dynamic time warping, on MFCC and on log-mel.
- linear head: a linear discriminant of the takes, varied as `teach` does, and other words, on the model's last layer.

Two rates are measured. "Among other words": 1 % of clips of other words are taken for the word. "In speech": one false
accept an hour of running speech. Thresholds are chosen on the test, for every way alike. The last column is with the
threshold that the device uses, which knows nothing of the test.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.fft import dct

from benchmarks.teach_words import WORDS, Clips, speech_commands
from host_tools.data.recordings import find_audio, recordings
from kws_edge import AudioFile, Model, Spotter, TakeError, TaughtWords, find_word
from kws_edge.detection.calibration import poisson_interval, wilson
from kws_edge.features.frontend import FrameStream
from kws_edge.teach.encoder import TappedInterpreter, normalised
from kws_edge.teach.listener import BUDGET, EVERY_S

_SHOTS = (5, 10)
_DRAWS = 3
_RATE, _STEP_S = 16_000, 0.1
_EVERY = 4
"""Frames are heard by DTW at this spacing."""
_PAUSE = np.zeros(_RATE // 2, np.int16)


def audio(path: Path) -> np.ndarray:
    with AudioFile(path, sample_rate=_RATE) as file:
        return file.read_all()


class Heard:
    """What the three ways make of the windows of some audio, one window each 100 ms."""

    def __init__(self, words: TaughtWords, last: TappedInterpreter, samples: np.ndarray) -> None:
        model = words.model
        rows = FrameStream(model.frontend_config, frontend=model.frontend).process(samples)
        n = model.frontend_config.n_frames
        windows = [rows[end - n : end] for end in range(n, len(rows) + 1, model.hop_frames(100.0))]
        self.embeddings, self.last, self.mel = [], [], []
        for window in windows:
            q = model.quantize(window)
            words.encoder.interpreter.invoke(q)
            self.embeddings.append(words.encoder.embedding())
            last.invoke(q)
            self.last.append(last.tapped.ravel().astype(np.float32))
            self.mel.append(window[::_EVERY])
        self.embeddings, self.last, self.mel = map(np.array, (self.embeddings, self.last, self.mel))


def mfcc(mel: np.ndarray) -> np.ndarray:
    """13 coefficients, less their mean over time."""
    values = dct(mel, axis=-1, norm="ortho")[..., 1:14]
    return values - values.mean(axis=-2, keepdims=True)


def log_mel(mel: np.ndarray) -> np.ndarray:
    return mel - mel.mean(axis=-2, keepdims=True)


def dtw(template: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Mean distance along the best path of a template, shape (t, d), in each of `many`, shape (n, s, d).

    The path may begin and end anywhere in them, and goes by (1, 1), (1, 2) or (1, 0).
    """
    cost = np.linalg.norm(template[None, :, None] - many[:, None], axis=-1)
    total = cost[:, 0]
    never = np.full((len(many), 2), np.inf)
    for row in range(1, len(template)):
        before = np.concatenate([never, total], axis=1)
        total = np.minimum(np.minimum(before[:, 2:], before[:, 1:-1]), before[:, :-2]) + cost[:, row]
    return total.min(axis=1) / len(template)


def smoothed(scores: np.ndarray) -> np.ndarray:
    """Means of two scores, with which the other ways are better."""
    return np.convolve(scores, [0.5, 0.5], "valid")


class Ways:
    """The scores that each way gives to windows, once it knows the takes of a word."""

    def __init__(self, words: TaughtWords, other: np.ndarray, last: TappedInterpreter) -> None:
        self._words, self._other, self._last = words, other, last

    def learn(self, takes: list) -> dict[str, Callable[[Heard], np.ndarray]]:
        return {
            "taught": self._taught(takes),
            "DTW on MFCC": self._dtw(takes, mfcc),
            "DTW on log-mel": self._dtw(takes, log_mel),
            "linear head": self._linear(takes),
        }

    def _taught(self, takes: list) -> Callable[[Heard], np.ndarray]:
        rivals = self._words.encoder.rivals
        found = [normalised(self._words.embeddings(take).mean(axis=0)) for take in takes]
        prototype = normalised(np.mean(found, axis=0))
        same = rivals.same("", prototype)
        mean, deviation = rivals.compared(prototype, rivals.spoken(same))
        every = round(EVERY_S / _STEP_S)

        def scores(heard: Heard) -> np.ndarray:
            embeddings = heard.embeddings[::every]
            return (embeddings @ prototype - rivals.penalty(embeddings, same) - mean) / deviation

        return scores

    def _dtw(self, takes: list, features: Callable[[np.ndarray], np.ndarray]) -> Callable[[Heard], np.ndarray]:
        frontend = self._words.model.frontend
        templates = [features(frontend.frames(take.samples[take.start : take.end])[::_EVERY]) for take in takes]
        return lambda h: smoothed(-np.min([dtw(template, features(h.mel)) for template in templates], axis=0))

    def _linear(self, takes: list) -> Callable[[Heard], np.ndarray]:
        from kws_edge.teach.takes import augmented

        model, own = self._words.model, []
        for take in takes:
            for clip in augmented(take, _RATE, _RATE, np.random.default_rng(1)):
                self._last.invoke(model.quantize(model.features(clip)))
                own.append(self._last.tapped.ravel().astype(np.float32))
        own = np.array(own)
        within = np.cov(self._other.T) + np.cov(own.T)
        within += np.eye(len(within)) * 0.1 * np.trace(within) / len(within)
        direction = np.linalg.solve(within, own.mean(axis=0) - self._other.mean(axis=0))
        return lambda h: smoothed(h.last @ direction)


def false_accepts(streams: list[np.ndarray], hours: float, per_hour: float) -> float:
    """The threshold that has so many false accepts, a second apart, in `streams` of scores."""
    peaks, apart = [], max(1, round(sum(map(len, streams)) / (3600 * hours)))
    for scores in streams:
        scores = scores.copy()
        for _ in range(len(scores) // apart + 1):
            best = int(scores.argmax())
            peaks.append(scores[best])
            scores[max(0, best - apart) : best + apart + 1] = -np.inf
    return float(np.sort(peaks)[::-1][round(per_hour * hours)])


def alarms(scores: np.ndarray, threshold: float) -> int:
    """False accepts of a stream of scores, at most one in a second."""
    found, wait = 0, 0
    for score in scores:
        if wait:
            wait -= 1
        elif score >= threshold:
            found, wait = found + 1, round(1 / EVERY_S)
    return found


def unheard(folder: Path) -> list[Path]:
    """Speech of readers that neither trained the encoder nor set its threshold.

    Every other recording of `train-clean-100` trained it. The training half of the rest set the threshold.
    """
    paths = sorted(recordings(folder).paths)
    trained = [path for path in paths if "train-clean" in str(path)][::2]
    return sorted(set(recordings(folder, "reporting").paths) - set(trained))


def measure(data: Path, choose: Callable[[Path, np.random.Generator], Clips]) -> dict:
    rng = np.random.default_rng(1)
    model = Model()
    with TemporaryDirectory() as folder:
        words = TaughtWords(model, Path(folder) / "none.json")
    mean = next(op.outputs[0] for op in reversed(model.flat.graphs[0].operators) if op.name == "MEAN")
    last = TappedInterpreter(model.flat, mean)
    clips = choose(data, rng)
    takes = {word: list(usable(paths)) for word, paths in clips.takes.items()}
    alone = lambda path: Heard(words, last, np.concatenate([_PAUSE, audio(path), _PAUSE]))  # noqa: E731
    tests = {word: [alone(path) for path in paths] for word, paths in clips.tests.items()}
    others = [alone(path) for path in clips.others]
    train = np.concatenate([Heard(words, last, np.pad(audio(p), 8000)).last for p in clips.train])
    streams = [Heard(words, last, audio(path)) for path in unheard(data / "negatives" / "speech")]
    streams = [stream for stream in streams if len(stream.mel) > 2]
    hours = sum(len(stream.mel) for stream in streams) * _STEP_S / 3600
    ways, rows = Ways(words, train, last), {}
    device = words.encoder.threshold(BUDGET)
    for shots in _SHOTS:
        for draw in range(_DRAWS):
            for word in takes:
                chosen = [takes[word][i] for i in rng.choice(len(takes[word]), shots, replace=False)]
                for name, score in ways.learn(chosen).items():
                    if draw and name.startswith("DTW"):  # it takes a hundred times as long as the others
                        continue
                    peak = lambda h, score=score: float(score(h).max())  # noqa: E731
                    hits = np.array([peak(h) for h in tests[word]])
                    wrong = np.array(
                        [peak(h) for v in tests if v != word for h in tests[v][:40]] + [peak(h) for h in others]
                    )
                    one = {"words": hits > np.quantile(wrong, 0.99)}
                    if draw == 0:
                        said = [score(stream) for stream in streams]
                        one["speech"] = hits > false_accepts(said, hours, 1.0)
                        if name == "taught":
                            one["device"] = hits > device
                            one["device_wrong"] = wrong > device
                            one["device_fa"] = np.array([alarms(s, device) for s in said])
                    for kind, values in one.items():
                        rows.setdefault((shots, name, kind), []).append(values)
            print(f"{shots} takes, draw {draw + 1} of {_DRAWS}", flush=True)
    return {"rows": rows, "hours": hours, "words": len(takes)}


def usable(paths: list[Path]) -> Iterator:
    for path in paths:
        try:
            yield find_word(np.pad(audio(path), 3200), _RATE)
        except TakeError:
            continue


def matching(words: TaughtWords, takes: list) -> list:
    """Five takes that are alike, as one person's are."""
    found = [normalised(words.embeddings(take).mean(axis=0)) for take in takes]
    middle = normalised(np.mean(found, axis=0))
    return [takes[i] for i in np.argsort([-float(one @ middle) for one in found])[:5]]


def costs(data: Path) -> dict[str, float]:
    """Seconds of one core to teach five words from five takes each, and what ten taught words cost in a stream."""
    model, rng = Model(), np.random.default_rng(2)
    paths = speech_commands(data, rng).takes
    speech = np.concatenate([audio(p) for p in find_audio(data / "negatives" / "speech").paths[:12]])
    with TemporaryDirectory() as folder:
        words = TaughtWords(model, Path(folder) / "words.json")
        takes = {word: matching(words, list(usable(paths[word][:60]))) for word in list(paths)[:5]}
        start = time.process_time()
        for word, five in takes.items():
            words.teach(word, five, date="")
        teaching = time.process_time() - start
        ten = {
            f"{word}{i}": dataclasses.replace(found, name=f"{word}{i}") for i in (1, 2) for word, found in words.items()
        }
        words._words = ten
        spent = {}
        for name, taught in (("without", None), ("with", words)) * 5:
            spotter = Spotter(model, taught=taught)
            start = time.process_time()
            for at in range(0, len(speech), 1600):
                spotter.process(speech[at : at + 1600])
            spent.setdefault(name, []).append(time.process_time() - start)
    ratio = min(spent["with"]) / min(spent["without"])
    return {"teach_five_words_s": teaching, "cpu_ratio_of_ten_words": ratio, "seconds_heard": len(speech) / _RATE}


def table(found: dict, cost: dict[str, float]) -> str:
    rows = found["rows"]
    names = list(dict.fromkeys(name for _, name, _ in rows))

    def cell(key: tuple) -> str:
        if key not in rows:
            return ""
        values = np.concatenate(rows[key])
        distinct = len(values) * found["words"] // len(rows[key])  # draws share the tests
        low, high = wilson(values.mean() * distinct, distinct)
        return f"{100 * values.mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"

    columns = ("takes", "way", "among other words, %", "in speech, %", "at the device's threshold, %")
    lines = [f"| {' | '.join(columns)} |", "|---:|---|---:|---:|---:|"]
    for shots in _SHOTS:
        for name in names:
            cells = [cell((shots, name, kind)) for kind in ("words", "speech", "device")]
            lines.append(f"| {shots} | {name} | " + " | ".join(cells) + " |")
    wrong = np.concatenate(rows[10, "taught", "device_wrong"])
    lines += [
        "",
        f"At the device's threshold and 10 takes, {100 * wrong.mean():.2f} % of other words are taken for a word.",
    ]
    heard = found["hours"] * found["words"]
    for shots in _SHOTS:
        n = int(np.concatenate(rows[shots, "taught", "device_fa"]).sum())
        low, high = poisson_interval(n)
        lines.append(
            f"With {shots} takes, a word has {n / heard:.2f} ({low / heard:.2f} to {high / heard:.2f}) false accepts "
            f"an hour: {n} in {found['hours']:.2f} hours of speech, for {found['words']} words."
        )
    lines += [
        f"Teaching five words takes {cost['teach_five_words_s']:.2f} s of one core.",
        f"Listening with ten taught words costs {cost['cpu_ratio_of_ten_words']:.2f} times the CPU without.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--words", choices=WORDS, default=next(iter(WORDS)), help="which words are taught")
    args = parser.parse_args()
    cost = costs(args.data)
    print(json.dumps(cost), flush=True)
    text = table(measure(args.data, WORDS[args.words]), cost)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

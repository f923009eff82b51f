"""Streams with truth, and label files."""

import json
import re
import sys

import numpy as np
import pytest
import soundfile

from host_tools.data.annotations import Word, labels_beside, read_also_said, read_labels, write_labels
from host_tools.data.dataset import Clip, index_clips
from host_tools.errors import DatasetError
from host_tools.evaluation.stream_config import StreamConfig
from host_tools.evaluation.stream_synthesis import FAINT_RMS, SPEECH_RMS, make_stream
from host_tools.sampling.noise_gate import HOLD_MS, gate_span, word_bounds
from kws_edge import ConfigError
from tests.conftest import assert_usage_error, peak_mb
from tests.tones import RATE

pytestmark = pytest.mark.host


def burst(start, end, n=RATE, level=8000.0, noise=0.0, seed=0):
    """A clip that sounds from sample `start` to `end`."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, noise, n) if noise else np.zeros(n)
    samples[start:end] += level * np.sin(np.arange(end - start) * 0.3)
    return samples.astype(np.int16)


@pytest.fixture
def words(tmp_path):
    """Clips whose words begin and end at known samples: three of each of two words, and one of a third word."""
    clips = []
    for word, start, end in (("yes", 3200, 8000), ("no", 6400, 14400), ("cat", 4800, 9600)):
        (tmp_path / "clips" / word).mkdir(parents=True)
        for i in range(3):
            path = tmp_path / "clips" / word / f"s{i}_nohash_0.wav"
            soundfile.write(path, burst(start, end), RATE)
            clips.append(Clip(path, word, f"s{i}", "validation"))
    return clips


@pytest.fixture
def hum(tmp_path):
    """A background recording at another sample rate."""
    folder = tmp_path / "hum"
    folder.mkdir()
    noise = np.random.default_rng(0).normal(0, 0.02, 3 * 22050)
    soundfile.write(folder / "hum.wav", noise, 22050)
    return [folder / "hum.wav"]


def test_word_bounds():
    for noise in (0, 20, 300):
        start, end = word_bounds(burst(4000, 9000, noise=noise), RATE)
        assert abs(start - 4000) <= 320 and abs(end - 9000) <= 320, noise
    paused = burst(2000, 5000) + burst(8000, 9000)  # a closure of 190 ms
    assert word_bounds(paused, RATE) == pytest.approx((2000, 9000), abs=320)
    clicked = burst(8000, 12000) + burst(0, 200, level=3000)  # half a second before
    assert word_bounds(clicked, RATE) == pytest.approx((8000, 12000), abs=320)
    released = burst(2000, 6000) + burst(11000, 11800)  # a third of a second later
    assert word_bounds(released, RATE) == pytest.approx((2000, 11800), abs=320)
    assert word_bounds(np.zeros(RATE, np.int16), RATE) == (0, RATE)
    assert word_bounds(np.ones(100, np.int16), RATE) == (0, 100)


def test_truth_is_where_the_words_sound(tmp_path, words):
    path = tmp_path / "out" / "s.flac"
    summary = make_stream(path, StreamConfig(clips=12, seed=3), words[:6])
    said = read_labels(labels_beside(path))
    assert len(said) == sum(summary.words.values()) == 12
    assert set(summary.words) == {"yes", "no"}
    samples = soundfile.read(path, dtype="int16")[0]
    assert len(samples) == round(summary.seconds * RATE)
    loud = np.abs(samples.astype(int)) > 20 * FAINT_RMS
    for word in said:
        first, last = round(word.start_s * RATE), round(word.end_s * RATE)
        assert last - first == pytest.approx(4800 if word.label == "yes" else 8000, abs=640)
        sounding = first - 1600 + np.flatnonzero(loud[first - 1600 : last + 1600])
        assert abs(sounding[0] - first) <= 320 and abs(sounding[-1] - last) <= 320
        loud[first - 320 : last + 320] = False
    assert not loud.any()


def test_same_seed_same_bytes(tmp_path, words, hum):
    config = StreamConfig(seconds=30, others=2, snr_db=(0, 20), rooms=0.5, seed=5)
    contents = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        path = tmp_path / f"{name}.flac"
        make_stream(path, StreamConfig(**{**vars(config), "seed": seed}), words[:6], others=words[6:], backgrounds=hum)
        contents.append((path.read_bytes(), path.with_suffix(".csv").read_bytes()))
    assert contents[0] == contents[1]
    assert contents[0][0] != contents[2][0] and contents[0][1] != contents[2][1]
    assert soundfile.info(tmp_path / "a.flac").frames == 30 * RATE
    assert [w.label for w in read_labels(tmp_path / "a.csv")].count("cat") == 2


@pytest.mark.parametrize("snr_db", [0, 20])
def test_signal_to_noise_ratio_and_gain(tmp_path, words, hum, snr_db):
    path = tmp_path / "s.wav"
    make_stream(path, StreamConfig(clips=6, snr_db=(snr_db, snr_db), gain_db=-6), words[:3], backgrounds=hum)
    samples = soundfile.read(path, dtype="int16")[0].astype(np.float64)
    spoken = np.zeros(len(samples), bool)
    for word in read_labels(path.with_suffix(".csv")):
        spoken[round(word.start_s * RATE) : round(word.end_s * RATE)] = True
    background, both = np.square(samples[~spoken]).mean(), np.square(samples[spoken]).mean()
    assert 10 * np.log10((both - background) / background) == pytest.approx(snr_db, abs=1)
    assert np.sqrt(both - background) == pytest.approx(SPEECH_RMS / 2, rel=0.08)


@pytest.mark.parametrize("edge_db", [25, 45])
def test_a_gate_is_digital_silence_but_for_the_words(tmp_path, words, hum, edge_db):
    """Where the gate is open, the stream is that without a gate. It opens where a loop over 10 ms says."""
    for name, gate_db in (("open", None), ("gated", edge_db)):
        config = StreamConfig(clips=6, snr_db=(10, 10), rooms=0.5, seed=2, gate_db=gate_db)
        make_stream(tmp_path / f"{name}.wav", config, words[:6], backgrounds=hum)
    plain, gated = (soundfile.read(tmp_path / f"{name}.wav", dtype="int16")[0] for name in ("open", "gated"))
    assert (tmp_path / "open.csv").read_bytes() == (tmp_path / "gated.csv").read_bytes()
    open_ = np.zeros(len(plain), bool)
    for word in read_labels(tmp_path / "gated.csv"):  # steady tones: the gate has their bounds
        open_[round((word.start_s - HOLD_MS / 1000) * RATE) : round((word.end_s + HOLD_MS / 1000) * RATE)] = True
    inside = np.flatnonzero(gated)
    np.testing.assert_array_equal(gated[inside], plain[inside])
    edges = 2 * len(words) * 320
    assert (open_ != (gated != 0)).sum() < edges + (plain[open_] == 0).sum()
    assert 0.1 < (gated != 0).mean() < 0.5


@pytest.mark.parametrize("edge_db", [10, 25, 45])
def test_gate_span(edge_db):
    """The bounds are those of a loop over 10 ms."""
    rng = np.random.default_rng(edge_db)
    for _ in range(20):
        n = int(rng.integers(1600, 20_000))
        samples = (rng.normal(0, 1, n) * 3000 * np.hanning(n) ** rng.uniform(1, 9)).astype(np.int16)
        powers = [float((samples[i : i + 160].astype(float) ** 2).mean()) for i in range(0, n - 159, 160)]
        loud = [i for i, power in enumerate(powers) if power > max(powers) / 10 ** (edge_db / 10)]
        assert gate_span(samples, RATE, edge_db) == (max(0, loud[0] * 160 - 960), min(n, loud[-1] * 160 + 160 + 960))
    assert gate_span(np.zeros(900, np.int16), RATE, edge_db) == (0, 900)
    assert gate_span(np.ones(9, np.int16), RATE, edge_db) == (0, 9)


def test_the_labels_name_speakers(tmp_path, words):
    make_stream(tmp_path / "a.wav", StreamConfig(clips=9, seed=1), words)
    assert (tmp_path / "a.csv").read_text().startswith("start_s,end_s,label,speaker\n")
    assert {word.speaker for word in read_labels(tmp_path / "a.csv")} == {"s0", "s1", "s2"}


def test_rooms_make_words_ring(tmp_path, words):
    for share in (0, 1):
        make_stream(tmp_path / f"{share}.wav", StreamConfig(clips=4, rooms=share), words[:3])
    dry, wet = (soundfile.read(tmp_path / f"{share}.wav", dtype="int16")[0].astype(float) for share in (0, 1))
    said = read_labels(tmp_path / "0.csv")
    assert said == read_labels(tmp_path / "1.csv")
    for word in said:
        after = slice(round(word.end_s * RATE) + 400, round(word.end_s * RATE) + 1600)
        assert np.square(wet[after]).mean() > 10 * np.square(dry[after]).mean()


def test_lengths(tmp_path, words):
    only = make_stream(tmp_path / "a.wav", StreamConfig(seconds=25, clips=0), words)
    assert (only.words, only.seconds) == ({}, 25)
    full = make_stream(tmp_path / "b.wav", StreamConfig(seconds=25, gap_s=(0, 0)), words)
    assert sum(full.words.values()) == 25
    once = make_stream(tmp_path / "c.wav", StreamConfig(), words)
    assert once.words == {"cat": 3, "no": 3, "yes": 3}
    with pytest.raises(DatasetError, match=r"only \d of 9 words fit into 10 s"):
        make_stream(tmp_path / "d.wav", StreamConfig(seconds=10, clips=9), words)
    with pytest.raises(DatasetError, match="mp3"):
        make_stream(tmp_path / "d.mp3", StreamConfig(), words)
    with pytest.raises(DatasetError, match="no clips of other words"):
        make_stream(tmp_path / "d.wav", StreamConfig(others=1), words)
    assert not list(tmp_path.glob("d.*"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"seconds": 0}, "seconds must be a number from 0.1 to 10000000, got 0"),
        ({"seconds": float("inf")}, "seconds must be a number from 0.1 to 10000000, got inf"),
        ({"clips": -1}, "clips must be a whole number from 0 to 10000000, got -1"),
        ({"clips": 0}, "a stream without words has no length: give seconds"),
        ({"others": -1}, "others must be a whole number from 0"),
        ({"gap_s": (2, 1)}, "gap_s takes the lower bound first, got 2 and 1"),
        ({"gap_s": (-1, 1)}, "gap_s must be a number from 0 to 3600, got -1"),
        ({"gap_s": (0, float("inf"))}, "gap_s must be a number from 0 to 3600, got inf"),
        ({"snr_db": (5, 0)}, "snr_db takes the lower bound first, got 5 and 0"),
        ({"gain_db": float("nan")}, "gain_db must be a number from -200 to 200, got nan"),
        ({"gain_db": 201}, "gain_db must be a number from -200 to 200, got 201"),
        ({"rooms": 2}, "rooms must be a number from 0 to 1, got 2"),
        ({"gate_db": 0}, "gate_db must be a number from 1 to 90, got 0"),
        ({"seed": -1}, "seed must be a whole number from 0"),
    ],
)
def test_settings_out_of_range(settings, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        StreamConfig(**settings)


@pytest.mark.parametrize("settings", [{"gain_db": 200}, {"rooms": 1}, {"gap_s": (0, 0)}, {"clips": 0, "seconds": 1}])
def test_settings_at_the_ends_of_their_ranges(settings):
    StreamConfig(**settings)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux gives it")
def test_memory_does_not_grow_with_the_stream(tmp_path, words, hum):
    """Ten minutes take at most 4 MB more than one minute, though the samples alone have 19 MB."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from host_tools.data.dataset import index_clips\n"
        "from host_tools.evaluation.stream_config import StreamConfig\n"
        "from host_tools.evaluation.stream_synthesis import make_stream\n"
        "config = StreamConfig(seconds=float(sys.argv[1]), snr_db=(0, 20), rooms=0.5)\n"
        "make_stream('long.flac', config, index_clips('clips').clips, backgrounds=[Path(sys.argv[2])])\n"
    )
    script = f"import os\nos.chdir({str(tmp_path)!r})\n{script}"
    peaks = [peak_mb(script, seconds, hum[0]) for seconds in (60, 600)]
    assert peaks[1] - peaks[0] < 4, peaks


def test_command(run_cli, tmp_path, words, hum):
    common = ("make-stream", tmp_path / "clips", "--split", "all", "-o", "s.flac", "--background", hum[0].parent)
    common += ("--half", "all", "--words", "yes,no", "--json")
    done = run_cli(*common, "--clips", 5, "--others", 1, "--snr-db", -5, 10, package="host_tools")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["words"]["cat"] == 1
    assert len(read_labels(tmp_path / "s.csv")) == 6
    failed = run_cli(*common, "--clips", 5, "--words", "yes,maybe", package="host_tools")
    assert failed.returncode == 1 and b"no all clips of maybe" in failed.stderr
    wrong = run_cli(*common, "--gap-s", 3, 1, package="host_tools")
    assert_usage_error(wrong, "gap_s takes the lower bound first, got 3 and 1", program="kws-host")


def test_real_clips_last_as_long_as_words_do(data, tmp_path):
    """Most spoken commands last 0.2 to 0.8 s. In a few noisy clips the word cannot be told from the rest."""
    clips = [c for c in index_clips(data / "speech_commands").clips if c.split == "validation"][::9]
    lengths = []
    for clip in clips:
        start, end = word_bounds(soundfile.read(clip.path, dtype="int16")[0], RATE)
        lengths.append((end - start) / RATE)
    assert 0.3 < np.median(lengths) < 0.5
    assert np.mean([0.12 <= n <= 0.9 for n in lengths]) > 0.93


def test_labels_round_trip(tmp_path):
    said = [Word(0.5, 0.9251, "yes"), Word(2.0, 2.0, 'a "quoted", word')]
    for some in (said, [*said, Word(3.0, 4.0, "no", speaker="b, c")]):
        write_labels(tmp_path / "a.csv", some)
        assert read_labels(tmp_path / "a.csv") == some


def test_label_forms(tmp_path, demo_stream):
    audacity = tmp_path / "a.txt"
    audacity.write_bytes(b"\xef\xbb\xbf3.5\t4.25\tno\r\n\\\t100.0\t4000.0\r\n0.500000\t0.920000\tyes\r\n\r\n")
    assert read_labels(audacity) == [Word(0.5, 0.92, "yes"), Word(3.5, 4.25, "no")]
    assert labels_beside(tmp_path / "a.flac") == audacity
    assert labels_beside(tmp_path / "b.flac") is None
    demo = read_labels(labels_beside(demo_stream))
    assert len(demo) == 17
    assert demo[2] == Word(3.99, 4.61, "hello")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("start_s,end_s\n1,2\n", "line 1: no column 'label'"),
        ("1.0,2.0,yes\n", "line 1: no column 'start_s'"),
        ("start_s,end_s,label\n1,2,yes\n3,4\n", "line 3: 2 columns"),
        ("start_s,end_s,label\n1,2,\n", "line 2: expected start, end and label"),
        ("start_s,end_s,label\n\n1,x,yes\n", "line 3: the times '1' and 'x'"),
        ("start_s,end_s,label\n2,1,yes\n", "line 2: a word from 2 to 1 s"),
        ("start_s,end_s,label\nnan,1,yes\n", "line 2: a word from nan"),
        ("start_s,end_s,label\n0,inf,yes\n", "line 2: a word from 0 to inf"),
        ("start_s,end_s,label\n1,2," + 200_000 * "a", "line 2: is not CSV"),
        ("1\t2\tyes\n1\t2\n", "line 2: expected start, end and label"),
        ("1,5\t2,5\tyes\n", "line 1: the times '1,5'"),
        ("-1\t2\tyes\n", "line 1: a word from -1"),
        ("1\t2\tyes\r1\t1e400\tno\r", "line 2: a word from 1 to inf"),
        ("start_s,start_s,end_s,label\n1,2,3,yes\n", "line 1: the column 'start_s' is there twice"),
        ("start_s,end_s,label\n" + 1000 * "1" + "x,2,yes\n", "line 2: the times '1111"),
        ("1\t2\t3\t" + 100_000 * "a", "line 1: expected start, end and label"),
        ("1\t2\ty\0s\n", "is no label file, but binary"),
    ],
)
def test_bad_labels(tmp_path, text, complaint):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DatasetError) as error:
        read_labels(path)
    assert str(error.value).startswith(str(path))
    assert complaint in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 200


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le with mark", "utf-16-be with mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("lines", [["start_s,end_s,label", "0.5,1,yes", "", "2,3,né"], ["0.5\t1\tyes", "2\t3\tné"]])
def test_labels_as_systems_write_them(tmp_path, encoding, end, lines):
    text, (encoding, _, marked) = end.join(lines) + end, encoding.partition(" with")
    (tmp_path / "a.csv").write_bytes((("\ufeff" if marked else "") + text).encode(encoding))
    assert read_labels(tmp_path / "a.csv") == [Word(0.5, 1, "yes"), Word(2, 3, "né")]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("speech,nan,1,yes", "line 3: a word from nan"),
        ("speech,2,1,yes", "line 3: a word from 2 to 1"),
        ("speech,-1,1,yes", "line 3: a word from -1"),
        ("speech,1,2", "line 3: 3 columns; the header names 4"),
        ("speech,1,2,", "line 3: expected start, end and label"),
        ("speech,1,x,yes", "line 3: the times '1' and 'x'"),
    ],
)
def test_bad_also_said(tmp_path, line, complaint):
    path = tmp_path / "said.csv"
    path.write_bytes(f"\ufeffrecording,start_s,end_s,label\r\nspeech,1,2,no\r\n{line}\r\n".encode())
    with pytest.raises(DatasetError) as error:
        read_also_said(path)
    assert str(error.value).startswith(f"{path}, {complaint}")


def test_labels_that_are_no_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\x01")
    with pytest.raises(DatasetError, match="not text"):
        read_labels(tmp_path / "a.csv")
    with pytest.raises(DatasetError, match="No such file"):
        read_labels(tmp_path / "none.csv")

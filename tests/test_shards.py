"""Features of a corpus in shards, and training from them."""

import io
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from benchmarks.shards import wav
from host_tools.config import DataConfig, MixConfig
from host_tools.data.dataset import index_clips
from host_tools.data.features import clip_features
from host_tools.errors import DatasetError
from host_tools.sampling.batches import Batches
from host_tools.sampling.examples import load_examples
from host_tools.sampling.windows import Windows
from host_tools.shards.corpus import find_corpus
from host_tools.shards.make import make_features
from host_tools.shards.shard import Shard
from host_tools.shards.stored import LIST, ShardList
from kws_edge import preset
from kws_edge.errors import WriteError
from tests.conftest import assert_one_line_error_at_end, wait_until
from tests.test_files import files_of_at_most

pytestmark = pytest.mark.host

CONFIG = preset("logmel40")
SHAPE = (CONFIG.n_frames, CONFIG.n_mels)
WORDS = ("yes", "no", "bed", "cat")
LABELS = ("silence", "unknown", "yes", "no")


def sound(word, number):
    """A short tone of the word's pitch."""
    rng = np.random.default_rng((WORDS.index(word), number))
    t = np.arange(1600) / 16000
    return wav(
        rng.uniform(2000, 8000) * np.sin(2 * np.pi * (300 + 200 * WORDS.index(word)) * t) + rng.normal(0, 20, 1600)
    )


def write_folder(folder, n=12):
    for word in WORDS:
        (folder / word).mkdir(parents=True)
        for i in range(n):
            (folder / word / f"{i % 10:08x}_nohash_{i // 10}.wav").write_bytes(sound(word, i))
    return folder


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as out:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            out.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("corpus") / "words")


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    """The corpus in five shards."""
    folder = tmp_path_factory.mktemp("shards") / "made"
    make_features(str(corpus), folder, CONFIG, shards=5, workers=1)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.npz")}


def features(*args, **options):
    """The command, started."""
    command = [sys.executable, "-m", "host_tools", "features", *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def finished(process):
    out, err = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_shards_hold_what_training_computes(corpus, made):
    index = index_clips(corpus).clips
    expected = clip_features([clip.path for clip in index], CONFIG).levels
    by_name = {f"{clip.word}/{clip.path.name}": (clip, levels) for clip, levels in zip(index, expected, strict=True)}
    seen = []
    for entry in ShardList.load(made).shards:
        shard = Shard.open(made / entry.file, SHAPE)
        names = [name for name, _ in json.loads(np.load(shard.path)["clips.json"])]
        assert entry.clips == shard.clips == len(names)
        assert np.array_equal(np.load(shard.path)["levels"], shard.read(0, shard.clips))
        for split, word, start, stop in shard.runs:
            for name, levels in zip(names[start:stop], shard.read(start, stop), strict=True):
                clip, wanted = by_name[name]
                assert (clip.split, clip.word) == (split, word)
                assert np.array_equal(levels, wanted)
        seen += names
    assert sorted(seen) == sorted(by_name)
    assert ShardList.load(made).words["training"]["yes"] == sum(c.split == "training" for c in index if c.word == "yes")


def test_processes_and_places_change_no_byte(corpus, made, tmp_path):
    shutil.copytree(corpus, tmp_path / "moved")  # with the times of the files
    make_features(str(tmp_path / "moved"), tmp_path / "out", CONFIG, shards=5, workers=2)
    assert contents(tmp_path / "out") == contents(made)


def test_a_killed_command_goes_on(corpus, made, tmp_path):
    out = tmp_path / "out"
    process = features(corpus, out, "--shards", 5, "--workers", 1)
    wait_until(lambda: len(contents(out)) >= 1, 200)
    process.kill()
    finished(process)
    kept = {name: (out / name).stat().st_mtime_ns for name in contents(out)}
    assert not (out / LIST).exists() or len(kept) == 5
    done = finished(features(corpus, out, "--shards", 5, "--workers", 1))
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(made)
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    assert not list(out.glob(".kws-*"))


def test_interrupted_by_hand(corpus, made, tmp_path):
    process = features(corpus, tmp_path / "out", "--shards", 5, "--workers", 2)
    wait_until(lambda: contents(tmp_path / "out"), 200)
    process.send_signal(signal.SIGINT)
    assert b"Traceback" not in finished(process).stderr
    make_features(str(corpus), tmp_path / "out", CONFIG, shards=5, workers=1)
    assert contents(tmp_path / "out") == contents(made)


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_torn_shard_is_told_and_made_anew(corpus, made, tmp_path, damage):
    out = tmp_path / "out"
    shutil.copytree(made, out)
    torn = sorted(out.glob("*.npz"))[2]
    data = torn.read_bytes()
    torn.write_bytes({"cut": data[:-1000], "changed": data[:500] + b"\0\1" + data[502:], "empty": b""}[damage])
    if damage == "changed":
        (out / LIST).unlink()  # as long as there is a list, sizes tell
    else:
        with pytest.raises(DatasetError, match=f"{torn}: is no whole shard .*kws-host features makes it anew"):
            Windows(out, ShardList.load(out), LABELS, part="training", size=100, seed=1)
    make_features(str(corpus), out, CONFIG, shards=5, workers=1)
    assert contents(out) == contents(made)


def test_a_changed_corpus_changes_few_shards(corpus, made, tmp_path):
    shutil.copytree(corpus, tmp_path / "words")
    out, name = tmp_path / "out", str(tmp_path / "words")
    make_features(name, out, CONFIG, shards=5, workers=1)
    before = contents(out)
    assert make_features(name, out, CONFIG, shards=5, workers=1).removed == 0
    (tmp_path / "words" / "yes" / "0000000f_nohash_0.wav").write_bytes(sound("yes", 99))
    again = make_features(name, out, CONFIG, shards=5, workers=1)
    assert again.removed == 1 and again.shards.clips == 4 * 12 + 1
    assert len(before.keys() & contents(out).keys()) == 4


def test_another_corpus_or_front_end_is_refused(corpus, made, tmp_path):
    write_folder(tmp_path / "other", 2)
    with pytest.raises(DatasetError, match=f"{made}: holds the features of {corpus}; name another folder"):
        make_features(str(tmp_path / "other"), made, CONFIG, shards=5)
    with pytest.raises(DatasetError, match="holds features of another front end"):
        make_features(str(corpus), made, preset("reference"), shards=5)
    data = DataConfig(features=made, noise=tmp_path)
    with pytest.raises(DatasetError, match="features of another front end"):
        load_examples(data, preset("reference"), LABELS)
    with pytest.raises(DatasetError, match="shards keep the official split"):
        load_examples(DataConfig(features=made, split="random"), CONFIG, LABELS)


def test_what_cannot_be_used_is_listed(tmp_path, run_cli):
    folder = write_folder(tmp_path / "words", 3)
    (folder / "yes" / "broken.wav").write_bytes(b"RIFF0000WAVEfmt ")
    (folder / "yes" / "empty.wav").write_bytes(b"")
    (folder / "Cat").mkdir()
    (folder / "Cat" / "a.wav").write_bytes(sound("cat", 7))
    (folder / "_background_noise_").mkdir()
    (folder / "_background_noise_" / "hum.wav").write_bytes(wav(np.zeros(16000)))
    done = run_cli("features", folder, tmp_path / "out", "--shards", 1, package="host_tools")
    out = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert "the words Cat, cat differ by capitals alone" in out
    assert "left out: yes/broken.wav: " in out and "left out: yes/empty.wav: is empty" in out
    assert f"--more-noise {folder}/_background_noise_" in out
    assert "13 clips of 5 words in 1 shard: " in out
    assert b"2 files left out, the first: " in done.stderr
    for path in folder.rglob("*.wav"):
        path.write_bytes(b"")
    done = run_cli("features", folder, tmp_path / "none", package="host_tools")
    assert_one_line_error_at_end(done, "none of its clips can be used, the first: ", "is empty")


def test_a_full_disk(corpus, tmp_path):
    with files_of_at_most(20_000), pytest.raises(WriteError, match=r"\.npz: cannot be written \(File too large\)"):
        make_features(str(corpus), tmp_path / "out", CONFIG, shards=5, workers=1)
    assert not (tmp_path / "out").exists()


def test_tar_files_as_webdataset_lays_them_out(corpus, made, tmp_path):
    members = {f"./{path.relative_to(corpus)}": path.read_bytes() for path in sorted(corpus.rglob("*.wav"))}
    write_tar(tmp_path / "tars" / "a.tar", dict(list(members.items())[:20]))
    write_tar(tmp_path / "tars" / "b.tar.gz", dict(list(members.items())[20:]))
    about = {"word": "yes", "speaker": "anna", "split": "testing"}
    more = {"1.wav": sound("yes", 50), "1.json": json.dumps(about).encode(), "2.txt": b"no\n", "2.wav": sound("no", 50)}
    write_tar(tmp_path / "tars" / "c.tar", {**more, "readme.md": b"-", "3.wav": sound("no", 51), "._1.wav": b"x"})
    found = make_features(str(tmp_path / "tars"), tmp_path / "out", CONFIG, shards=9, workers=1).shards
    assert len(found.shards) == 3  # of tar files at most one each
    assert found.clips == len(members) + 2
    assert found.first_left_out == (("c.tar/3.wav", "a recording in no word's folder"),)
    whole = ShardList.load(made).words
    assert found.words["training"]["bed"] == whole["training"]["bed"]  # the names of files tell speakers
    assert found.words["testing"]["yes"] == whole.get("testing", {}).get("yes", 0) + 1


@pytest.mark.parametrize("damage", ["cut", "no tar", "split"])
def test_a_broken_tar_file_is_no_smaller_corpus(tmp_path, damage):
    path = write_tar(tmp_path / "a.tar", {f"yes/{i}.wav": sound("yes", i) for i in range(3)})
    if damage == "split":
        write_tar(path, {"yes/1.wav": sound("yes", 1), "yes/1.json": b'{"split": "trial"}'})
    else:
        path.write_bytes(path.read_bytes()[:5000] if damage == "cut" else b"x" * 5000)
    reason = r"a.tar/yes/1.wav: .* split 'trial'; known are" if damage == "split" else "a.tar: cannot be read"
    with pytest.raises(DatasetError, match=reason):
        make_features(str(path), tmp_path / "out", CONFIG, shards=1)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "lists no file"),
        ("yes/a.wav\nb.tar\n", "lists both tar files and other files"),
        ("yes/a.pdf\n", "neither clips of the form <word>/\\*.wav nor tar files"),
        ("yes/a.wav\n", "yes/a.wav: no such file"),
    ],
)
def test_wrong_lists(tmp_path, content, complaint):
    (tmp_path / "list.txt").write_text(content)
    with pytest.raises(DatasetError, match=complaint):
        make_features(str(tmp_path / "list.txt"), tmp_path / "out", CONFIG, shards=1)


def test_wrong_corpora(tmp_path):
    for name, complaint in (
        (tmp_path / "missing", "no such file or folder"),
        (tmp_path, "no clips of the form"),
        (tmp_path / "*.tar", "no such file or folder, or an empty one"),
    ):
        with pytest.raises(DatasetError, match=complaint):
            find_corpus(str(name))
    pytest.importorskip("fsspec", exc_type=ImportError, reason="fsspec is not installed here")
    with pytest.raises(DatasetError, match="nowhere://x: cannot be read"):
        find_corpus("nowhere://x")


def test_a_list_of_urls(corpus, made, tmp_path):
    pytest.importorskip("fsspec", exc_type=ImportError, reason="fsspec is not installed here")
    pytest.importorskip("aiohttp", exc_type=ImportError, reason="aiohttp is not installed here")

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(corpus))

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        names = [f"{base}/{path.relative_to(corpus)}" for path in corpus.rglob("*.wav")]
        (tmp_path / "list.txt").write_text("# clips\n" + "\n".join(names))
        # In a process of its own: fsspec's thread for HTTP lasts as long as the process.
        done = finished(features(tmp_path / "list.txt", tmp_path / "out", "--shards", 2, "--workers", 1))
        (tmp_path / "list.txt").write_text(f"{base}/yes/missing.wav\n")
        missing = finished(features(tmp_path / "list.txt", tmp_path / "other", "--shards", 2))
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert ShardList.load(tmp_path / "out").words == ShardList.load(made).words
    assert_one_line_error_at_end(missing, f"{base}/yes/missing.wav: ")


def windows(made, **options):
    options = {"part": "training", "size": 12, "seed": 3, **options}
    return Windows(made, ShardList.load(made), LABELS, **options)


def test_windows_pass_over_the_whole_corpus(made):
    moving = windows(made)
    assert not moving.whole
    n = {word: moving.totals[word] for word in WORDS}
    seen, epochs = Counter(), 0
    while epochs * 3 < n["yes"]:
        levels, words = moving.at(epochs)
        assert Counter(words)["yes"] == Counter(words)["no"] == 3
        assert Counter(words)["bed"] + Counter(words)["cat"] == 6
        seen.update(row.tobytes() for row, word in zip(levels, words, strict=True) if word == "yes")
        epochs += 1
    assert len(seen) == n["yes"]  # nothing comes twice before everything has come
    assert windows(made, size=1000).whole
    assert Counter(windows(made, size=1000).at(5).words) == n


def test_seed_and_epoch_fix_a_window(made):
    first, second, other = windows(made), windows(made), windows(made, seed=4)
    one = [first.at(epoch) for epoch in range(4)]
    assert all(np.array_equal(a.levels, second.at(i).levels) for i, a in reversed(list(enumerate(one))))
    assert not np.array_equal(one[0].levels, one[1].levels)
    assert not np.array_equal(one[0].levels, other.at(0).levels)


def examples_of(made, tmp_path, **options):
    (tmp_path / "noise").mkdir(exist_ok=True)
    (tmp_path / "noise" / "hiss.wav").write_bytes(wav(np.random.default_rng(0).normal(0, 500, 48_000)))
    return load_examples(DataConfig(features=made, more_noise=(tmp_path / "noise",), **options), CONFIG, LABELS)


def test_training_from_shards_has_the_examples_of_training_from_clips(corpus, made, tmp_path):
    shards = examples_of(made, tmp_path)
    clips = load_examples(DataConfig(clips=corpus, more_noise=(tmp_path / "noise",)), CONFIG, LABELS)
    assert shards.summary["training"] == clips.summary["training"]
    assert shards.summary["validation"] == clips.summary["validation"]
    assert shards.summary["origins"] == clips.summary["origins"]
    for word in WORDS:
        ours, theirs = (sorted(row.tobytes() for row in one.rows(one.by_word[word])) for one in (shards, clips))
        assert ours == theirs
        assert shards.count(word) == clips.count(word) == shards.count_recorded(word)


def test_batches_from_shards(made, tmp_path):
    """A batch follows from seed, epoch and index, in whatever order they are made, and words have their labels."""

    def batches():
        return Batches(examples_of(made, tmp_path, window=12), MixConfig(), batch_size=8, seed=1)

    one, two = batches(), batches()
    wanted = {(epoch, i): one.batch(epoch, i) for epoch in range(3) for i in range(2)}
    for key, (inputs, targets) in reversed(wanted.items()):
        again = two.batch(*key)
        assert np.array_equal(again[0], inputs) and np.array_equal(again[1], targets)
    assert one.examples.count("yes") == windows(made).totals["yes"] > len(one.examples.by_word["yes"]) == 3
    assert one.examples.count_recorded("yes") == 0  # none is here in every epoch
    assert len(one.examples.stores[-1]) == 12


def test_no_data_is_wrong_usage(run_cli):
    done = run_cli("train", "-o", "run", package="host_tools")
    assert done.returncode == 2 and b"--features of kws-host features" in done.stderr


def test_without_the_extra(tmp_path, run_cli):
    """As where neither Ray nor fsspec is installed."""
    code = (
        "import sys; sys.modules.update(ray=None, fsspec=None); from host_tools.__main__ import main; sys.exit(main())"
    )
    write_folder(tmp_path / "words", 1)
    for args, what in (
        ((tmp_path / "words", "out", "--on", "ray://127.0.0.1"), "a cluster needs Ray: pip install '.[cluster]'"),
        (("s3://bucket/words", "out"), "URLs need fsspec: pip install '.[cluster]'"),
    ):
        command = [sys.executable, "-c", code, "features", *map(str, args)]
        done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path, timeout=200)
        assert_one_line_error_at_end(done, what)


@pytest.mark.parametrize("where", ["there", "ray://", "host", "host:99999", "http://host:1"])
def test_places_that_are_none(run_cli, where):
    done = run_cli("features", "words", "out", "--on", where, package="host_tools")
    assert done.returncode == 2 and b"must be local, ray://HEAD or HEAD:PORT" in done.stderr

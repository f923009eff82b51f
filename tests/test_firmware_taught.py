"""Words that a user taught, in firmware: the C code hears in recordings what kws_edge hears, and takes other tables."""

from __future__ import annotations

import ctypes
import shutil
import zlib

import numpy as np
import pytest

from firmware_export.arena import MicroInterpreter
from firmware_export.export import prepare
from firmware_export.manifest import write
from firmware_export.taught import Taught, taught_table
from kws_edge import AudioFile, Model, Spotter, TaughtWords, find_word
from tests.conftest import assert_one_line_error, need_program
from tests.firmware.host import CApp, compile_c, hear_with_losses
from tests.voices import RATE, record

pytestmark = [pytest.mark.host, pytest.mark.firmware]

pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")

WORDS = ("lamp", "kitchen", "banana")
ERR_WORDS, ERR_ARGUMENT = -30010, -30008


@pytest.fixture(scope="module", autouse=True)
def compiler():
    need_program("gcc")
    need_program("g++")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return record(tmp_path_factory.mktemp("spoken"))


@pytest.fixture(scope="module")
def model():
    return Model("commands12", kernels="builtin")


def taught(model, recordings, folder, names):
    words = TaughtWords(model, folder / f"{len(names)}.json")
    for word in names:
        words.teach(word, [find_word(one, RATE) for one in recordings[word][:5]], date="2026-11-28")
    return words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("taught")


@pytest.fixture(scope="module")
def words(model, recordings, folder):
    return taught(model, recordings, folder, WORDS[:2])


@pytest.fixture(scope="module")
def others(model, recordings, folder):
    """Words that are taught after the export."""
    return taught(model, recordings, folder, WORDS[2:])


@pytest.fixture(scope="module")
def exported(model, words, folder):
    found = prepare(model, taught=Taught(words))
    write(found, folder / "out")
    return found


@pytest.fixture(scope="module")
def micro(model, words):
    return MicroInterpreter(Taught(words).model(model).flat, "commands12")


@pytest.fixture(scope="module")
def app(exported, micro, folder):
    found = CApp(folder / "out" / "src", folder / "app.so", micro, fixed=False)
    found.functions = ctypes.CDLL(str(folder / "app.so"))
    return found


@pytest.fixture(scope="module")
def stream(recordings, demo_stream):
    return np.concatenate([samples_of(demo_stream), *(recordings[word][5] for word in (*WORDS, *WORDS))])


def heard(model, words, samples):
    spotter = Spotter(model, taught=words)
    found = spotter.process(samples)
    return [(one.keyword, round(RATE * one.start_s), round(RATE * one.end_s), one.score) for one in found]


def heard_in_c(app, samples, table=None):
    app.heard.clear()
    assert app.reset() == 0
    if table is not None:
        assert give(app, table) == 0
    for at in range(0, len(samples), 1234):
        assert app.process(samples[at : at + 1234]) == 0
    return [(keyword, start, end, score) for keyword, score, start, end, _ in app.heard]


def give(app, table, size=None):
    """Replace the table of words; it stays as long as the application."""
    app.table = ctypes.create_string_buffer(table, len(table))
    return app.functions.kws_app_set_words(app._app, app.table, ctypes.c_size_t(len(table) if size is None else size))


def assert_alike(found, expected):
    """The same words at the same samples. The front ends differ by a step of the model's input in a few features."""
    assert [one[:3] for one in found] == [one[:3] for one in expected]
    np.testing.assert_allclose([one[3] for one in found], [one[3] for one in expected], atol=0.1)


def test_c_hears_the_words_that_python_hears(app, model, words, stream):
    expected = heard(model, words, stream)
    assert [keyword for keyword, *_ in expected][-4:] == ["lamp", "kitchen", "lamp", "kitchen"]
    assert_alike(heard_in_c(app, stream), expected)


def test_thresholds_of_single_words_hold_in_c(app, model, words, stream, folder):
    """One that no score reaches, and one that lies below the encoder's."""
    shutil.copy(words.path, folder / "moved.json")
    moved = TaughtWords(model, folder / "moved.json")
    first, second = moved
    moved.set_thresholds({first: 0.999999, second: 0.2})
    expected = heard(model, moved, stream)
    assert {keyword for keyword, *_ in expected} & {*moved} == {second}
    assert_alike(heard_in_c(app, stream, taught_table(moved)), expected)


def test_after_losses_both_look_at_the_same_times(app, model, words, recordings):
    """Lost samples move the inferences, but not the times at which words are looked for."""
    assert app.reset() == 0
    assert give(app, taught_table(words)) == 0
    app.heard.clear()
    expected = hear_with_losses(app, Spotter(model, taught=words), np.concatenate(recordings["lamp"] * 12))
    assert sum(keyword == "lamp" for keyword, *_ in expected) > 5
    assert [(keyword, start, end) for keyword, _, start, end, _ in app.heard] == expected


def test_c_hears_in_recordings_of_people_what_python_hears(app, model, folder, data):
    """The letters R C B, which trained nothing. Running speech is before them."""
    paths = sorted((data / "independent" / "other_words" / "a" / "other").iterdir())[185:215]
    spoken = [samples_of(path) for path in paths]
    words = TaughtWords(model, folder / "people.json")
    takes = [words.embeddings(find_word(np.pad(one, RATE // 5), RATE)) for one in spoken[:10]]
    middle = sum(take.mean(axis=0) for take in takes)
    words.learn("R C B", sorted(takes, key=lambda take: -float(take.mean(axis=0) @ middle))[:5], date="")
    speech = [samples_of(path) for path in sorted((data / "negatives" / "speech").rglob("*.*"))[:4]]
    stream = np.concatenate([part for one in [*speech, *spoken[10:]] for part in (one, np.zeros(RATE // 2, np.int16))])
    expected = heard(model, words, stream)
    assert sum(keyword == "R C B" for keyword, *_ in expected) > 8
    assert_alike(heard_in_c(app, stream, taught_table(words)), expected)


def samples_of(path):
    with AudioFile(path, sample_rate=RATE) as file:
        return file.read_all()


def test_one_network_gives_the_embeddings_of_two(model, micro, words, stream):
    """The bits of both outputs are those of the model and of the encoder, in another runtime."""
    encoder, several = words.encoder, Taught(words).model(model)
    for at in range(0, len(stream) - RATE, 4 * RATE // 3):
        q = model.quantize(model.features(stream[at : at + RATE]))
        answers, codes = micro.run([q])
        np.testing.assert_array_equal(answers, encoder.interpreter.invoke(q))
        np.testing.assert_allclose(Taught(words).embedding(codes, several)[0], encoder.embedding(), atol=1e-6)


def test_c_scores_as_python_does(app, model, words, micro, stream):
    """Within 1e-4 standard deviations, on the same second output of the network."""
    c, taught, several = app.functions, Taught(words), Taught(words).model(model)
    state = ctypes.create_string_buffer(1 << 10)
    table = ctypes.create_string_buffer(taught_table(words))
    assert c.kws_taught_open(state, table, ctypes.c_size_t(len(table) - 1)) == 0
    c.kws_taught_name.restype = ctypes.c_char_p
    assert [c.kws_taught_name(state, ctypes.c_size_t(i)) for i in range(3)] == [b"lamp", b"kitchen", None]
    embedding, score, apart = (ctypes.c_float * 64)(), ctypes.c_float(), []
    for at in range(0, len(stream) - RATE, RATE // 2):
        _, codes = micro.run([model.quantize(model.features(stream[at : at + RATE]))])
        assert c.kws_taught_embedding(codes.ravel().ctypes.data_as(ctypes.c_void_p), embedding) == 0
        wanted = words.best(np.repeat(taught.embedding(codes, several), 8, axis=0))
        for i, name in enumerate(words):
            assert c.kws_taught_score(state, ctypes.c_size_t(i), embedding, ctypes.byref(score)) == 0
            apart.append(abs(score.value - wanted[name]))
    assert max(apart) < 1e-4
    assert c.kws_taught_score(state, ctypes.c_size_t(2), embedding, ctypes.byref(score)) == ERR_ARGUMENT


def test_a_table_is_replaced_without_another_model(app, model, others, stream):
    found = heard_in_c(app, stream, taught_table(others))
    assert_alike(found, heard(model, others, stream))
    assert [keyword for keyword, *_ in found][-2:] == ["banana", "banana"]


def test_no_words_are_a_table_too(app, model, folder, stream):
    found = heard_in_c(app, stream[: 12 * RATE], taught_table(TaughtWords(model, folder / "none.json")))
    assert_alike(found, heard(model, None, stream[: 12 * RATE]))


def test_damaged_tables_are_refused_and_the_words_stay(app, words, others, stream):
    table = taught_table(words)
    assert give(app, table) == 0
    kept = app.table
    rng = np.random.default_rng(0)
    for at in [*range(28), *rng.integers(28, len(table), 100).tolist()]:
        damaged = bytearray(table)
        damaged[at] ^= 1 << int(rng.integers(8))
        assert give(app, bytes(damaged)) == ERR_WORDS, at
    for size in (0, 27, 28, len(table) - 1):
        assert give(app, table, size) == ERR_WORDS
    assert give(app, table + b"\xff" * 100) == 0, "a larger place in flash"
    app.functions.kws_taught_open(app._app, None, ctypes.c_size_t(0))
    assert app.functions.kws_app_set_words(app._app, None, ctypes.c_size_t(9)) == ERR_ARGUMENT
    del kept


@pytest.mark.parametrize("field", [8, 14, 28, 32, 36])
def test_a_table_that_lies_with_a_right_checksum_reads_nothing_outside(app, words, field):
    """Its size, its number of words, and the places of a name and of a list."""
    damaged = bytearray(taught_table(words))
    damaged[field : field + 2] = b"\xfe\xff"
    damaged[4:8] = zlib.crc32(damaged[8:]).to_bytes(4, "little")
    assert give(app, bytes(damaged)) == ERR_WORDS


def test_the_self_test_knows_the_words(app, exported):
    status, lines = app.self_test()
    assert (status, lines[-1]) == (0, "self-test passed"), lines
    assert exported.summary["taught"] == ["lamp", "kitchen"]
    assert exported.summary["keywords"][-2:] == ["lamp", "kitchen"]


@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-none-eabi-gcc"])
def test_taught_words_compile_without_a_warning(exported, folder, compiler, tmp_path):
    need_program(compiler)
    src = folder / "out" / "src"
    for name in ("kws_taught.c", "kws_taught_data.c", "kws_app.c", "kws_self_test_model.c", "kws_vectors.c"):
        compile_c(compiler, "-O2", "-Wcast-align", "-Wundef", "-c", src / name, "-o", tmp_path / "x.o")


def test_a_firmware_without_taught_words_has_no_code_of_them(model):
    files = prepare(Model("micro12", kernels="builtin")).files
    assert not [name for name in files if "taught" in name]
    assert "#define KWS_TAUGHT 0" in files["src/kws_config.h"]


def test_commands(run_cli, words, others, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(*args):
        return run_cli(*args, package="firmware_export")

    done = run("taught", "commands12", "--taught", others.path, "-o", str(tmp_path / "words.bin"))
    assert b"banana" in done.stdout, done.stderr
    assert (tmp_path / "words.bin").read_bytes() == taught_table(TaughtWords(others.model, others.path))
    done = run("export", "commands12", "--taught", words.path, "-o", str(tmp_path / "out"), "--prefix", "mine")
    assert done.returncode == 0, done.stderr
    assert "mine_taught_table" in (tmp_path / "out" / "src" / "mine_taught_data.c").read_text()
    for args, reason in [
        (("commands12", "--taught"), "has no words; kws-edge teach WORD teaches one"),
        (("commands12", "--taught", "absent.json"), "absent.json: no such file"),
        (("micro12", "--taught", words.path), "has no encoder"),
    ]:
        failed = run("export", *args, "-o", str(tmp_path / "other"))
        assert failed.returncode in (1, 2)
        assert reason in failed.stderr.decode()
    assert_one_line_error(
        run("export", "words36", "--taught", words.path, "-o", str(tmp_path / "other")),
        "has no encoder",
        program="kws-firmware",
    )

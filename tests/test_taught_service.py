"""``kws-edge serve`` with taught words: every output, changes while it runs, and what is wrong."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge import AudioFile, ConfigError, Model, Spotter, TaughtWords, find_word
from kws_edge.service.clips import CHECKED, HIT, NEAR_MISS, WRONG, ClipFolder
from kws_edge.service.config import ModelSection, SourceSection
from kws_edge.service.ear import Ear, SharedModel
from kws_edge.service.history import History
from kws_edge.service.mqtt import discovery
from kws_edge.service.tuning import Tuning
from kws_edge.service.wyoming.hearing import Hearing
from tests.conftest import assert_one_line_error
from tests.house import WORDS, House
from tests.served import served
from tests.serving import RATE, Feed, Serving, silence
from tests.voices import record


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return record(tmp_path_factory.mktemp("spoken"))


@pytest.fixture(scope="module")
def taught_file(tmp_path_factory, recordings):
    """The words lamp and kitchen."""
    path = tmp_path_factory.mktemp("taught") / "taught.json"
    words = TaughtWords(Model("commands12", kernels="builtin"), path)
    for word in ("lamp", "kitchen"):
        words.teach(word, [find_word(samples, RATE) for samples in recordings[word][:5]], date="2026-11-28")
    return path


@pytest.fixture
def words(tmp_path, taught_file):
    """A file of the words lamp and kitchen of the test's own."""
    path = tmp_path / "taught.json"
    path.write_bytes(taught_file.read_bytes())
    return path


@pytest.fixture(scope="module")
def stream(demo_stream, recordings):
    """The demo, and then lamp and kitchen."""
    with AudioFile(demo_stream, sample_rate=RATE) as source:
        own = source.read_all()[: 8 * RATE]
    return np.concatenate([own, recordings["lamp"][5], recordings["kitchen"][5]])


def section(path, **more):
    return ModelSection(kernels="builtin", taught=str(path), **more)


def heard(spotter, samples):
    return [(one.keyword, round(one.end_s, 2)) for one in spotter.process(samples) + spotter.flush()]


# The ear


def test_an_ear_hears_taught_words_beside_the_model_s_own(words, stream):
    shared = SharedModel(section(words))
    ear = Ear.made(shared, shared.base(SourceSection()), Tuning())
    model = Model("commands12", kernels="builtin")
    expected = heard(Spotter(model, taught=TaughtWords(model, words)), stream)
    assert [word for word, _ in expected][-2:] == ["lamp", "kitchen"]
    assert heard(ear.spotter, stream) == expected
    state = ear.state("hall")
    assert state.taught == ("lamp", "kitchen") and state.keywords[-2:] == state.labels[-2:] == ("lamp", "kitchen")
    assert set(state.possible) == set(state.thresholds) == set(state.keywords)
    assert (state.thresholds["lamp"], state.taught_file) == (0.5, str(words))


@pytest.mark.parametrize("block", [1024, 9000])
def test_ears_with_taught_words_go_on_where_another_one_ends(words, stream, block):
    shared = SharedModel(section(words))
    base = shared.base(SourceSection())
    alone = Ear.made(shared, base, Tuning()).spotter
    expected = alone.process(stream) + alone.flush()
    ear, history, found = Ear.made(shared, base, Tuning()), History(10 * RATE), []
    for i, at in enumerate(range(0, len(stream), block)):
        history.add(part := stream[at : at + block])
        found += ear.spotter.process(part)
        if i % max(1, 40_000 // block) == 0:
            ear = Ear.made(shared, base, Tuning())
            ear.catch_up(history)
    assert found + ear.spotter.flush() == expected


def test_words_that_are_not_active_are_not_heard(words, stream):
    shared = SharedModel(section(words))
    tuning = Tuning().with_keywords(["yes", "stop", "kitchen"], shared.taught_names)
    assert Tuning.from_dict(tuning.to_dict()) == tuning == Tuning(keywords=("yes", "stop"), unheard=("lamp",))
    ear = Ear.made(shared, shared.base(SourceSection()), tuning)
    found = [word for word, _ in heard(ear.spotter, stream)]
    assert "lamp" not in found and "kitchen" in found
    state = ear.state("hall")
    assert state.keywords == ("yes", "stop", "kitchen")
    assert "lamp" in state.possible and "lamp" not in state.labels
    with pytest.raises(ConfigError, match="one of the model's own keywords must be active"):
        tuning.with_keywords(["lamp"], shared.taught_names)


def test_a_threshold_of_a_taught_word_holds(words, stream):
    shared = SharedModel(section(words))
    shared.taught.set_thresholds({"lamp": 0.999_999})
    ear = Ear.made(shared, shared.base(SourceSection()), Tuning())
    assert [word for word, _ in heard(ear.spotter, stream)][-1] == "kitchen"
    assert "lamp" not in dict(heard(ear.spotter, stream))
    assert TaughtWords(shared.model, words)["lamp"].threshold == 0.999_999, "it is kept"
    assert ear.spotter.threshold_of("lamp") == ear.state("hall").thresholds["lamp"] == 0.999_999
    with pytest.raises(ConfigError, match="the threshold of 'lamp' must be a number from 0 to 1, got 2"):
        shared.taught.set_thresholds({"lamp": 2})


def test_a_service_without_taught_words_loads_nothing_of_them(stream):
    shared = SharedModel(ModelSection(kernels="builtin"))
    state = Ear.made(shared, shared.base(SourceSection()), Tuning()).state("hall")
    assert (shared.taught, state.taught, state.taught_file) == (None, (), None)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("taught = 3", "taught must be true, false or a path, got 3"),
        ("taught = true\nfile = 'micro12'", "has no encoder, so it cannot be taught words"),
        ("taught = 'torn.json'", "torn.json: taught words cannot be used: "),
    ],
)
def test_what_cannot_work_is_said_at_the_start(run_cli, tmp_path, value, reason):
    (tmp_path / "torn.json").write_text("{")
    (tmp_path / "serve.toml").write_text(f"[model]\n{value}\n[jsonl]\n")
    done = run_cli("serve", "--config", tmp_path / "serve.toml", "--check")
    assert_one_line_error(done, reason)


# The service


@pytest.fixture
def feed(tmp_path):
    with closing(Feed(tmp_path / "feed")) as feed:
        yield feed


@pytest.fixture
def serve(tmp_path):
    running = []

    def start(more="", **options):
        text = (
            f'[service]\ntelemetry_s = 0.3\n[model]\nkernels = "builtin"\ntaught = "taught.json"\n[jsonl]\n'
            f'[[source]]\nfile = "feed"\n{more}'
        )
        running.append(Serving(tmp_path, text, **options))
        return running[-1]

    yield start
    for one in running:
        one.kill()


def test_words_are_taught_and_removed_while_it_runs(serve, feed, words, recordings):
    service = serve()
    feed.write(silence(1))
    service.wait_for("listens for yes, no, up, down, left, right, on, off, stop, go, lamp, kitchen")
    feed.write(recordings["banana"][5])
    feed.write(recordings["lamp"][5])
    assert service.detection()["keyword"] == "lamp"
    model = Model("commands12", kernels="builtin")
    mine = TaughtWords(model, words)
    mine.teach("banana", [find_word(one, RATE) for one in recordings["banana"][:5]], date="2026-11-28")
    feed.write(silence(1))
    service.wait_for("taught words: lamp, kitchen, banana")
    feed.write(silence(1))
    feed.write(recordings["banana"][5])
    assert service.detection()["keyword"] == "banana"
    mine.remove("lamp")
    service.wait_for("taught words: kitchen, banana")
    feed.write(silence(1))
    feed.write(recordings["lamp"][5])
    words.write_text("{")
    Path(f"{words}.bak").write_text("{")
    service.wait_for("taught words: all goes on as it was")
    feed.write(recordings["kitchen"][5])
    feed.close()
    assert [one["keyword"] for one in service.finish()] == ["kitchen"]


def test_a_reload_reads_taught_words_too(serve, feed, words, recordings):
    service = serve()
    feed.write(silence(1))
    service.wait_for("lamp, kitchen")
    TaughtWords(Model("commands12"), words).remove("kitchen")
    service.reload()
    feed.write(recordings["kitchen"][5])
    feed.write(recordings["lamp"][5])
    feed.close()
    assert [one["keyword"] for one in service.finish()] == ["lamp"]


def test_a_word_that_an_output_names_is_not_lost_unheard(serve, feed, words, recordings):
    service = serve('[[exec]]\nkeyword = "lamp"\ncommand = "true"\n')
    feed.write(silence(1))
    service.wait_for("lamp, kitchen")
    TaughtWords(Model("commands12"), words).remove("lamp")
    said = service.wait_for("taught words: all goes on as it was")
    assert "'lamp' is no keyword" in said
    feed.write(recordings["lamp"][5])
    feed.close()
    assert [one["keyword"] for one in service.finish()] == ["lamp"]


# Outputs


def test_home_assistant_is_told_of_taught_words(words):
    shared = SharedModel(section(words))
    state = Ear.made(shared, shared.base(SourceSection()), Tuning()).state("hall")
    parts = discovery.components(discovery.Topics("hall", "homeassistant"), "hall", state.keywords)
    assert parts["command"]["evt_typ"][-2:] == ["lamp", "kitchen"]
    assert parts["heard_lamp"]["pl"] == "lamp"


def test_wyoming_hears_taught_words(words, stream):
    shared = SharedModel(section(words))
    state = Ear.made(shared, shared.base(SourceSection()), Tuning()).state("hall")
    hearing = Hearing(state, name="kws-edge", language="en", sentences={})
    assert [word for word, _ in heard(hearing.spotter(), stream)][-2:] == ["lamp", "kitchen"]
    assert {"lamp", "kitchen"} <= {model["name"] for model in hearing.info().data["wake"][0]["models"]}
    found = [word for word, _ in heard(hearing.spotter(["stop", "lamp"]), stream)]
    assert set(found) == {"stop", "lamp"}
    shared.taught.remove("lamp")
    hearing.change(Ear.made(shared, shared.base(SourceSection()), Tuning()).state("hall"))
    assert [word for word, _ in heard(hearing.spotter(), stream)][-1] == "kitchen"
    assert "lamp" not in dict(heard(hearing.spotter(), stream))


def test_wyoming_tells_only_of_wake_words_that_were_asked_for(words, stream):
    clients = pytest.importorskip("tests.test_wyoming")
    house = House("kitchen")
    room = {"keywords": (*WORDS, "lamp"), "possible": (*WORDS, "lamp", "kitchen"), "taught": ("lamp", "kitchen")}
    house.change("kitchen", **room, taught_file=str(words))
    with clients.running(clients.section(room="kitchen"), house) as (output, said):
        told = asyncio.run(clients.detect(output, stream, ["lamp"]))
        assert [event.data["name"] for event in told] == ["lamp"]
        assert said == []


@pytest.fixture
def page(tmp_path, words, recordings):
    """A service with a page and clips, which hears banana and lamp again and again."""
    pytest.importorskip("h11", reason="h11 is not installed here")
    soundfile.write(tmp_path / "said.wav", np.concatenate([recordings["banana"][5], recordings["lamp"][5]]), RATE)
    sections = '[model]\ntaught = "taught.json"\n[web]\nport = 0\n[clips]\nfolder = "clips"\n'
    with served(tmp_path, sections, tmp_path / "said.wav", pace=2.0) as service:
        assert service.port
        yield service


def names(page):
    return [word["name"] for word in page.ask("GET", "/api/taught")[1]["words"]]


def test_the_page_teaches_and_removes_words(page, tmp_path, recordings):
    room = page.event("begin")["rooms"][0]
    assert room["taught"] == names(page) == ["lamp", "kitchen"]
    assert room["keywords"][-2:] == ["lamp", "kitchen"]
    folder = ClipFolder(str(tmp_path / "clips"), most_bytes=10**9)
    clips = [
        folder.add(samples[RATE // 2 :], RATE, room="kitchen", word="lamp", score=0.5, kind=WRONG)
        for samples in [*recordings["banana"][:5], silence(2)]
    ]
    for name, chosen, reason in (
        ("banana", clips[:2], "2 takes of 'banana'; give 3 to 10"),
        ("banana", clips[3:], "recording 3: silence: nothing is louder"),
        ("stop", clips[:5], "'stop' is a label of the model"),
        ("lamp", clips[:5], "'lamp' is taught already"),
        ("banana", ["../taught.json"], "there is no clip"),
    ):
        status, answer = page.ask("POST", "/api/taught/teach", {"name": name, "clips": chosen})
        assert status == 400 and reason in answer["error"]
    assert names(page) == ["lamp", "kitchen"]
    with page.events() as events:
        assert page.ask("POST", "/api/taught/teach", {"name": "banana", "clips": clips[:5]})[0] == 200
        assert next(v["keyword"] for kind, v in events if kind == "detection" and v["keyword"] != "lamp") == "banana"
    assert names(page) == ["lamp", "kitchen", "banana"]
    assert {clip.word for clip in folder if clip.kind == CHECKED} == {"banana"}, "they are clips of it now"
    assert page.ask("POST", "/api/taught/remove", {"name": "banana"})[0] == 200
    assert page.ask("POST", "/api/taught/remove", {"name": "banana"})[0] == 400
    assert page.event("begin")["rooms"][0]["taught"] == ["lamp", "kitchen"]


def test_the_page_sets_thresholds_of_taught_words(page, words):
    change = {"room": "kitchen", "thresholds": {"lamp": 0.9, "stop": 0.8}}
    assert page.ask("POST", "/api/settings", change)[0] == 200
    thresholds = page.event("begin")["rooms"][0]["thresholds"]
    assert (thresholds["lamp"], thresholds["stop"]) == (0.9, 0.8)
    assert TaughtWords(Model("commands12"), words)["lamp"].threshold == 0.9


def test_a_page_without_taught_words_says_so(tmp_path, demo_stream):
    pytest.importorskip("h11", reason="h11 is not installed here")
    with served(tmp_path / "s", "[web]\nport = 0\n", demo_stream) as service:
        assert service.event("begin")["taught"] is False
        status, answer = service.ask("GET", "/api/taught")
        assert status == 400 and "set taught = true" in answer["error"]


def test_near_misses_of_taught_words_are_kept(serve, feed, words, recordings, tmp_path):
    TaughtWords(Model("commands12"), words).set_thresholds({"lamp": 0.999_999})
    service = serve('[clips]\nfolder = "clips"\nnear = 0.5\n')
    feed.write(recordings["lamp"][5])
    feed.write(recordings["kitchen"][5])
    feed.write(silence(3))
    feed.close()
    assert [one["keyword"] for one in service.finish()] == ["kitchen"]
    clips = ClipFolder(str(tmp_path / "clips"), most_bytes=10**9)
    assert [(clip.word, clip.kind) for clip in clips] == [("kitchen", HIT), ("lamp", NEAR_MISS)]

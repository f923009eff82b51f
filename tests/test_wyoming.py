"""The Wyoming output with the client of the wyoming package, as Home Assistant opens it."""

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("wyoming", reason="wyoming is not installed here")
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.wake import Detect, Detection, NotDetected

from kws_edge import Model, Spotter
from kws_edge.errors import ConfigError
from kws_edge.service.outputs.wyoming import WyomingSection
from kws_edge.service.wyoming import session
from kws_edge.toml_files import parse_toml
from tests.conftest import assert_one_line_error, wait_until
from tests.house import WORDS, House, free_port

ROOT = Path(__file__).parent.parent
RATE, CHUNK = 16_000, 1024
FORMAT = {"rate": RATE, "width": 2, "channels": 1}
SENTENCES = {"on": "turn on the light", "stop": "stop the music"}


@pytest.fixture(scope="module")
def samples(demo_stream):
    return soundfile.read(demo_stream, dtype="int16")[0]


def section(**more):
    return WyomingSection(**({"port": free_port(), "announce": False, "sentences": SENTENCES} | more))


@contextlib.contextmanager
def running(settings, house=None):
    """The output at work, and what it says to people."""
    house = house or House("kitchen")
    said = []
    output = settings.open("wyoming", house, said.append)
    house.outputs_.append(output)
    output.start()
    try:
        wait_until(lambda: output.port or said)
        yield output, said
    finally:
        assert output.close(5), "it does not end"
        if output.fault:
            raise output.fault


def client(output):
    return AsyncTcpClient("127.0.0.1", output.port)


async def describe(output):
    async with client(output) as one:
        await one.write_event(Describe().event())
        return Info.from_event(await one.read_event())


def chunks(samples, size=2 * CHUNK):
    data = samples.astype("<i2").tobytes()
    return [AudioChunk(**FORMAT, audio=data[at : at + size]).event() for at in range(0, len(data), size)]


async def transcribe(output, samples, *, live=False):
    """What Home Assistant's speech-to-text gets: the text, and seconds of audio that were sent until then."""
    async with client(output) as one:
        await one.write_event(Transcribe(language="en").event())
        await one.write_event(AudioStart(**FORMAT).event())
        sent = 0

        async def upload():
            nonlocal sent
            begin = time.monotonic()
            for event in chunks(samples):
                await one.write_event(event)
                sent += CHUNK
                await asyncio.sleep(max(0, begin + sent / RATE - time.monotonic()) if live else 0)
            await one.write_event(AudioStop().event())

        uploading = asyncio.create_task(upload())
        try:
            event = await asyncio.wait_for(one.read_event(), 20)
        finally:
            uploading.cancel()
            await asyncio.gather(uploading, return_exceptions=True)
        return Transcript.from_event(event).text, sent / RATE


def test_home_assistant_loads_speech_to_text_and_wake_words():
    with running(section()) as (output, said):
        info = asyncio.run(describe(output))
    # As Home Assistant's WyomingService reads it: with a satellite it would load no platform.
    assert info.satellite is None
    assert not (info.tts or info.handle or info.intent or info.mic or info.snd)
    (program,) = info.asr
    assert program.installed
    assert program.requires_external_vad is False
    assert [model.languages for model in program.models if model.installed] == [["en"]]
    (wake,) = info.wake
    assert wake.installed
    assert [(model.name, model.phrase) for model in wake.models] == [(word, word) for word in WORDS]
    assert program.name == "kws-edge"
    assert said == []


def test_a_keyword_becomes_a_sentence_as_soon_as_it_ends(samples):
    """The demo says "stop" until 6.35 s, and other words before and after it."""
    with running(section()) as (output, _):
        text, sent_s = asyncio.run(transcribe(output, samples[5 * RATE : 12 * RATE], live=True))
    assert text == "stop the music"
    assert 1.35 < sent_s < 1.35 + 1.0


def test_a_word_without_a_sentence_is_its_own(samples):
    with running(section()) as (output, _):
        assert asyncio.run(transcribe(output, samples[: 2 * RATE]))[0] == "yes"


def test_a_word_at_the_very_end_is_heard(samples):
    with running(section()) as (output, _):
        assert asyncio.run(transcribe(output, samples[int(5.6 * RATE) : int(6.36 * RATE)]))[0] == "stop the music"


def test_nothing_said_ends_by_itself():
    silence = np.zeros(20 * RATE, np.int16)
    with running(section(patience_s=3)) as (output, _):
        text, sent_s = asyncio.run(transcribe(output, silence))
        assert text == ""
        assert sent_s >= 3
        assert asyncio.run(transcribe(output, silence[:RATE]))[0] == ""


async def detect(output, samples, names=None, size=2 * CHUNK):
    """Everything that a wake word client is told of a stream."""
    async with client(output) as one:
        await one.write_event(Detect(names=names).event())
        await one.write_event(AudioStart(**FORMAT).event())
        for event in chunks(samples, size):
            await one.write_event(event)
        await one.write_event(AudioStop().event())
        await one.write_event(Ping(text="end").event())
        told = []
        while not Pong.is_type((event := await asyncio.wait_for(one.read_event(), 20)).type):
            told.append(event)
        return told


def test_wake_words_are_those_of_a_spotter(samples):
    model = Model("commands12")
    config = dataclasses.replace(
        model.detector_config, keywords=WORDS, thresholds=dict.fromkeys(WORDS, 0.8), wake_word=None
    )
    expected = list(Spotter(model, detector_config=config).detections([samples]))
    with running(section()) as (output, _):
        told = [Detection.from_event(event) for event in asyncio.run(detect(output, samples))]
        assert [(one.name, one.timestamp) for one in told] == [(d.keyword, round(1000 * d.end_s)) for d in expected]
        assert len(told) >= 3
        cut = [Detection.from_event(event) for event in asyncio.run(detect(output, samples, size=1237))]
        assert cut == told  # Home Assistant cuts within samples
        told = asyncio.run(detect(output, samples, ["left"]))
        assert {Detection.from_event(event).name for event in told} == {"left"}
        (none,) = asyncio.run(detect(output, np.zeros(RATE, np.int16)))
        assert NotDetected.is_type(none.type)


def test_a_change_holds_from_the_next_stream_on(samples):
    house = House("hall", "kitchen")
    with running(section(room="kitchen"), house) as (output, said):
        assert asyncio.run(transcribe(output, samples[5 * RATE : 8 * RATE]))[0] == "stop the music"
        house.change("kitchen", keywords=("yes", "no"))
        wait_until(lambda: [one.name for one in asyncio.run(describe(output)).wake[0].models] == ["yes", "no"])
        assert asyncio.run(transcribe(output, samples[5 * RATE : 8 * RATE]))[0] == ""
        house.change("kitchen", keywords=WORDS, thresholds=dict.fromkeys(WORDS, 1.0))
        wait_until(lambda: len(asyncio.run(describe(output)).wake[0].models) == 10)
        assert asyncio.run(transcribe(output, samples[5 * RATE : 8 * RATE]))[0] == ""
        assert said == []


def header(**values):
    return json.dumps(values).encode() + b"\n"


START = header(type="transcribe") + header(type="audio-start", data=FORMAT)
HOSTILE = {
    "no JSON": b"GET / HTTP/1.1\r\n\r\n",
    "no UTF-8": b"\xff\xfe\n",
    "a list": b"[]\n",
    "no type": b"{}\n",
    "a type that is a number": header(type=7),
    "a type without end": header(type="x" * 1000),
    "data that is a list": header(type="describe", data=[1]),
    "a line without end": b'{"type": "' + b"x" * 200_000,
    "a length that is negative": header(type="describe", data_length=-1),
    "a length that is a text": header(type="describe", data_length="1e3"),
    "a length that is a truth": header(type="describe", payload_length=True),
    "data of 10 GB": header(type="describe", data_length=10**10),
    "audio of 10 GB": START + header(type="audio-chunk", data=FORMAT, payload_length=10**10),
    "data that is no object": header(type="describe", data_length=2) + b"[]",
    "nested JSON": b'{"type": ' + b"[" * 5000 + b"\n",
    "audio before a request": header(type="audio-start", data=FORMAT),
    "audio before its start": header(type="audio-chunk", data=FORMAT, payload_length=2) + b"\0\0",
    "another rate": header(type="detect") + header(type="audio-start", data={**FORMAT, "rate": 44_100}),
    "a rate that is a list": header(type="detect") + header(type="audio-start", data={**FORMAT, "rate": []}),
    "no format": header(type="detect") + header(type="audio-start"),
    "another word": header(type="detect", data={"names": ["hey jarvis"]}),
    "names that are no list": header(type="detect", data={"names": "stop"}),
    "names that are lists": header(type="detect", data={"names": [[]]}),
}


@pytest.fixture(scope="module")
def shared():
    with running(section()) as (output, said):
        yield output, said


@pytest.mark.parametrize("what", HOSTILE)
def test_malformed_frames_end_only_their_connection(shared, samples, what):
    output, said = shared

    async def both():
        good = asyncio.create_task(transcribe(output, samples[5 * RATE : 8 * RATE]))
        reader, writer = await asyncio.open_connection("127.0.0.1", output.port)
        writer.write(HOSTILE[what])
        with contextlib.suppress(ConnectionError):
            answer = await asyncio.wait_for(reader.read(), 10)
            assert b'"error"' in answer
        writer.close()
        return await good

    assert asyncio.run(both())[0] == "stop the music"
    assert output.fault is None
    assert all(len(one) < 300 and "\n" not in one for one in said)


def test_events_that_are_unknown_are_dropped(shared):
    output, _ = shared

    async def talk():
        async with client(output) as one:
            one._writer.write(header(type="select-program", data={"name": "x"}) + header(type="played", other=1))
            await one.write_event(Ping(text="a" * 1000).event())
            return Pong.from_event(await one.read_event()).text

    assert len(asyncio.run(talk())) < 200


def open_files():
    return len(os.listdir("/proc/self/fd"))


def test_a_hundred_connections(samples):
    with running(section(clients=10)) as (output, said):
        before, threads = open_files(), threading.active_count()

        async def many():
            results = await asyncio.gather(
                *(transcribe(output, samples[5 * RATE : 8 * RATE]) for _ in range(100)), return_exceptions=True
            )
            return [one[0] for one in results if isinstance(one, tuple)]

        refusal = "10 clients are served already"  # who has not sent much yet can read it
        texts = [one for one in asyncio.run(many()) if one != refusal]
        assert set(texts) == {"stop the music"}
        assert len(texts) >= 10
        wait_until(lambda: open_files() <= before)
        assert threading.active_count() <= threads
        assert asyncio.run(transcribe(output, samples[5 * RATE : 8 * RATE]))[0] == "stop the music"
        assert any(refusal in one for one in said)
        assert len(said) < 10


def test_a_refused_client_is_told_why():
    with running(section(clients=1)) as (output, _):

        async def two():
            async with client(output) as first:
                await first.write_event(Ping().event())
                assert Pong.is_type((await first.read_event()).type)
                async with client(output) as second:
                    return await asyncio.wait_for(second.read_event(), 5)

        event = asyncio.run(two())
    assert (event.type, event.data["text"]) == ("error", "1 clients are served already")


def test_a_client_that_never_reads_is_left(samples, monkeypatch):
    monkeypatch.setattr(session, "_WRITE_S", 0.5)
    with running(section()) as (output, said), socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", output.port))
        deaf.settimeout(20)
        with pytest.raises(OSError):  # it is cut off while it goes on asking
            for _ in range(100_000):
                deaf.sendall(header(type="describe") * 100)
        wait_until(lambda: any("did not read" in one for one in said))
        assert asyncio.run(transcribe(output, samples[5 * RATE : 8 * RATE]))[0] == "stop the music"


def test_a_silent_client_is_left(monkeypatch):
    monkeypatch.setattr(session, "_IDLE_S", 0.3)
    with running(section()) as (output, _), socket.create_connection(("127.0.0.1", output.port)) as silent:
        silent.settimeout(5)
        silent.sendall(b'{"type":')
        answer = b""
        while data := silent.recv(4096):
            answer += data
        assert b"the client sent nothing in 0.3 s" in answer


def test_a_recording_comes_no_faster_than_is_fair(samples):
    """Live streams keep the processor, whatever one client sends."""
    with running(section()) as (output, _):
        start = time.monotonic()
        asyncio.run(detect(output, np.tile(samples, 2)))
        expected = (2 * len(samples) / RATE - session._AHEAD_S) / session._PACE
        assert expected < time.monotonic() - start < expected + 10


def test_it_ends_while_clients_stream(samples):
    with running(section()) as (output, _), socket.create_connection(("127.0.0.1", output.port)) as one:
        one.sendall(START)
        time.sleep(0.2)
        start = time.monotonic()
        assert output.close(3)
        assert time.monotonic() - start < 2
        one.settimeout(5)
        with contextlib.suppress(ConnectionError):
            assert one.recv(1) == b""


def test_a_port_that_is_taken_is_told_and_tried_again(samples):
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = section(port=other.getsockname()[1])
        with running(settings) as (output, said):
            wait_until(lambda: said)
            assert said[0].startswith(f"wyoming: cannot listen on 127.0.0.1:{settings.port} (")
            other.close()
            wait_until(lambda: output.port)
            assert asyncio.run(transcribe(output, samples[: 2 * RATE]))[0] == "yes"


def test_it_is_found_on_the_network():
    from kws_edge.service.wyoming.announce import SERVICE, Announcer, own_addresses

    zeroconf = pytest.importorskip("zeroconf")
    from zeroconf.asyncio import AsyncZeroconf

    assert own_addresses("127.0.0.1") == own_addresses("::1") == own_addresses("localhost") == []
    assert own_addresses("192.0.2.7") == ["192.0.2.7"]
    assert "127.0.0.1" not in own_addresses("0.0.0.0")
    said = []

    async def find():
        announcer = Announcer("kws-edge", lambda: ["127.0.0.1"], notice=said.append)
        announcing = asyncio.create_task(announcer.run(10_400))
        listener = AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=zeroconf.IPVersion.V4Only)
        found, gone = asyncio.Event(), asyncio.Event()

        def changed(zeroconf, service_type, name, state_change):
            if "kws-edge" in name:
                (found if state_change.name == "Added" else gone).set()
                names.append(name)

        names = []
        from zeroconf.asyncio import AsyncServiceBrowser

        browser = AsyncServiceBrowser(listener.zeroconf, SERVICE, handlers=[changed])
        await asyncio.wait_for(found.wait(), 10)
        info = await listener.async_get_service_info(SERVICE, names[0], 3000)
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)
        await asyncio.wait_for(gone.wait(), 10)
        await browser.async_cancel()
        await listener.async_close()
        return info

    info = asyncio.run(find())
    assert (info.port, info.parsed_addresses()) == (10_400, ["127.0.0.1"])
    assert said == []


# zeroconf leaves its first socket to the garbage collector if there is no such address.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_addresses_that_come_late_are_announced(monkeypatch):
    from kws_edge.service.wyoming import announce

    monkeypatch.setattr(announce, "_LOOK_S", 0.05)
    seen, said = [], []
    answers = [[], [], ["203.0.113.9"], ["127.0.0.1"]]

    def addresses():
        seen.append(1)
        return answers[min(len(seen) - 1, 3)]

    async def late():
        announcer = announce.Announcer("kws-edge", addresses, notice=said.append)
        announcing = asyncio.create_task(announcer.run(10_400))
        while len(seen) < 6:
            await asyncio.sleep(0.05)
        assert not announcing.done()
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)

    asyncio.run(late())
    assert len(said) == 1
    assert said[0].startswith("not announced on the network (")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"port": 0}, "[wyoming]: port must be a whole number from 1 to 65535, got 0"),
        ({"clients": 1000}, "[wyoming]: clients must be a whole number from 1 to 100, got 1000"),
        ({"sentences": {"on": ""}}, "[wyoming]: sentences: 'on' must be one of a table of sentences"),
        ({"sentences": ["on"]}, "[wyoming]: sentences must be a table of sentences of 1 to 200 characters, got ['on']"),
        ({"language": "plain English"}, "[wyoming]: language must be a language such as en or de-CH"),
        ({"satellite": True}, "[wyoming]: unknown setting 'satellite'"),
    ],
)
def test_settings_that_cannot_work(values, message):
    with pytest.raises(ConfigError) as error:
        WyomingSection.from_dict(values)
    assert message in str(error.value)


def test_a_sentence_for_no_keyword_is_refused(run_cli, tmp_path):
    (tmp_path / "serve.toml").write_text('[wyoming]\n[wyoming.sentences]\nonn = "turn on the light"\n')
    assert_one_line_error(run_cli("serve", "--check", "--config", "serve.toml"), "wyoming", "'onn'")


def test_a_room_that_is_not_there_is_told():
    with running(section(room="attic")) as (_, said):
        assert said[0] == "wyoming: no source is called 'attic'; there are kitchen"


def test_without_zeroconf_one_line_says_what_to_install():
    code = (
        "import sys; sys.modules['zeroconf'] = None\n"
        "from kws_edge.service.outputs.wyoming import WyomingSection\n"
        "WyomingSection(announce=False).check(); WyomingSection().check()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("kws_edge.errors.KwsError: [wyoming] needs zeroconf: pip install '.[wyoming]'")
    assert last.endswith("; or set announce = false")


def test_the_section_alone_loads_no_library():
    code = "import sys, kws_edge.service.outputs.wyoming; print({'zeroconf', 'asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_page_names_every_option():
    (text,) = re.findall(r"^```toml\n(.*?)^```$", (ROOT / "docs" / "reference" / "wyoming.md").read_text(), re.M | re.S)
    values = parse_toml(re.sub(r"^# (?=\w+ = )", "", text, flags=re.M))["wyoming"]
    assert set(values) == {one.name for one in dataclasses.fields(WyomingSection)}
    section, default = WyomingSection.from_dict(values), WyomingSection()
    for name in set(values) - {"room", "sentences"}:
        assert getattr(section, name) == getattr(default, name), name

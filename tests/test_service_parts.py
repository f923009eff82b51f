"""The parts of the service: outputs behind queues, the configuration, the history, the tuning, systemd's protocol."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import re
import socket
import threading
import time
import weakref
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from kws_edge import ConfigError, Detection, Spotter, pack
from kws_edge.service import memory
from kws_edge.service.config import OUTPUTS, ModelSection, SourceSection, output_section, read_config
from kws_edge.service.ear import Ear, SharedModel
from kws_edge.service.events import Detected, Event, Reloaded, Telemetry
from kws_edge.service.history import History
from kws_edge.service.notify import Notifier
from kws_edge.service.outputs import base
from kws_edge.service.outputs.base import Limit, Output, OutputError, RejectedError
from kws_edge.service.saved import load_changes, save_changes
from kws_edge.service.section import FileName, secret
from kws_edge.service.tuning import Tuning
from kws_edge.toml_files import parse_toml
from tests.conftest import ROOT, wait_until
from tests.test_step_stream import GRAPH, METADATA


def detected(keyword="on", room="kitchen", **more):
    return Detected(room=room, detection=Detection(keyword, 0.9, 1.0, 2.0), threshold=0.8, **more)


def telemetry(**more):
    return Telemetry(
        room="kitchen", present=True, level_db=None, noise_db=None, lost_s=0, outages=0, detections=0, latency_s=None,
        heard_s=0, temperature_c=None, **more,
    )  # fmt: skip


class Receiver(Output):
    """Collects what it is sent. It fails while `down` is set, and stands still while `open` is not."""

    def __init__(self, notices, **attributes):
        super().__init__("receiver", service=None, notice=notices.append)
        self.got, self.connected, self.down = [], 0, None
        self.open = threading.Event()
        self.open.set()
        vars(self).update(attributes)
        self.start()

    def connect(self):
        if self.down:
            raise self.down
        self.connected += 1

    def send(self, event):
        self.open.wait(30)
        if self.down:
            raise self.down
        self.got.append(event)

    def words(self):
        return [event.detection.keyword for event in self.got if isinstance(event, Detected)]


def test_output_sends_in_order_and_ends():
    notices = []
    output = Receiver(notices)
    for word in ("on", "off", "stop"):
        output.put(detected(word))
    output.put(telemetry())
    assert output.close(5)
    assert output.words() == ["on", "off", "stop"]
    assert output.counts() == {"sent": 3, "dropped": 0, "failed": 0, "waiting": 0}
    assert notices == []


def test_output_that_stands_still_drops_the_oldest_and_never_blocks():
    """A room's flood does not push out what another room waits to say."""
    output = Receiver([], limits={Detected: Limit(4, 60.0)})
    output.open.clear()
    output.put(detected("first"))
    wait_until(lambda: output.counts()["waiting"] == 0)
    output.put(detected("other", room="hall"))
    start = time.perf_counter()
    for i in range(1000):
        output.put(detected(str(i)))
    assert time.perf_counter() - start < 1
    output.open.set()
    assert output.close(5)
    assert output.words() == ["first", "other", "996", "997", "998", "999"]
    assert output.counts()["dropped"] == 996


def test_late_command_is_dropped_and_counted():
    output = Receiver([])
    output.put(detected("late", made=time.monotonic() - 5.1))
    output.put(detected("young", made=time.monotonic() - 3))
    assert output.close(5)
    assert output.words() == ["young"]
    assert output.counts()["dropped"] == 1


def test_telemetry_that_is_too_old_is_no_loss():
    """A newer one says all that matters."""
    output = Receiver([])
    output.put(telemetry(made=time.monotonic() - 31))
    assert output.close(5)
    assert output.counts() == {"sent": 0, "dropped": 0, "failed": 0, "waiting": 0}


@pytest.mark.parametrize(
    "error", [OutputError("no route"), ConfigError("no route"), ConnectionResetError(104, "no route")]
)
def test_output_connects_again_and_sends_what_is_young(error):
    notices = []
    output = Receiver(notices, down=None)
    output.down = error
    output.put(detected("on"))
    wait_until(lambda: output.counts()["failed"] >= 3)
    output.down = None
    wait_until(lambda: output.got)
    assert output.close(5)
    assert output.words() == ["on"]
    assert notices == ["receiver: no route", "receiver: works again"]


def test_failures_are_tried_again_less_and_less_often(monkeypatch):
    """The waits double up to a limit. A random half of each is left out, so that devices do not come back at once."""
    monkeypatch.setattr(base, "_FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(base, "_LONGEST_WAIT_S", 0.3)
    times = []

    class Down(Receiver):
        def connect(self):
            times.append(time.monotonic())
            raise OutputError("down")

    output = Down([])
    wait_until(lambda: len(times) > 8)
    output.close(0)
    waits = [after - before for before, after in itertools.pairwise(times)]
    limits = [min(0.02 * 2**i, 0.3) for i in range(len(waits))]
    assert all(limit / 2 <= wait for wait, limit in zip(waits, limits, strict=True))
    assert sum(waits) < sum(limits) + 1


@pytest.mark.parametrize(("lasting_s", "wait_s"), [(30.0, 0.64), (0.0, 0.02)])
def test_connection_that_does_not_last_is_a_failure(monkeypatch, lasting_s, wait_s):
    """Two clients of one name push each other out less and less often, although each can send for a moment."""
    monkeypatch.setattr(base, "_FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(base, "_LASTING_S", lasting_s)
    output = Receiver([], wants={Detected, Telemetry})
    for connected in range(1, 6):
        wait_until(lambda n=connected: output.connected == n)
        output.put(telemetry())
        wait_until(lambda n=connected: len(output.got) == n)
        output.lost("taken over")
    wait_until(lambda: output.connected == 6)
    assert output._wait_s == pytest.approx(max(2 * 0.02, wait_s))
    output.put(detected())
    wait_until(lambda: output.words() == ["on"])
    output.lost("taken over")
    wait_until(lambda: output.connected == 7)
    assert output._wait_s == pytest.approx(2 * 0.02)
    assert output.close(5)


@pytest.mark.parametrize(("event", "seconds"), [(detected, 1.5), (telemetry, 0.0)])
def test_end_while_the_receiver_is_down(event, seconds):
    """A command is tried some more times, not thousands of times. A state is of no use any more."""
    output = Receiver([], wants={Detected, Telemetry}, down=OutputError("down"))
    output.put(event())
    wait_until(lambda: output.counts()["failed"] > 0)
    start = time.monotonic()
    assert output.close(1.5)
    assert seconds - 0.1 < time.monotonic() - start < seconds + 1
    assert output.counts()["failed"] < 8


def test_state_that_is_replaced_is_not_lost():
    output = Receiver([], wants={Telemetry})
    output.open.clear()
    for n in range(4):
        output.put(telemetry())
        wait_until(lambda n=n: output.counts()["waiting"] == min(n, 1))
    output.open.set()
    assert output.close(5)
    assert output.counts() == {"sent": 2, "dropped": 0, "failed": 0, "waiting": 0}


def test_new_detection_is_tried_at_once(monkeypatch):
    """In a long wait it would become too old, although the receiver may be back."""
    monkeypatch.setattr(base, "_FIRST_WAIT_S", 60.0)
    output = Receiver([], down=OutputError("down"))
    wait_until(lambda: output.counts()["failed"] == 1)
    output.down = None
    output.put(detected("on"))
    wait_until(lambda: output.words() == ["on"])
    output.close(1)


def test_refused_event_is_not_sent_again():
    notices = []
    output = Receiver(notices, down=None)
    output.down = RejectedError("400")
    output.put(detected("bad"))
    wait_until(lambda: output.counts()["failed"] == 1)
    output.down = None
    output.put(detected("good"))
    assert output.close(5)
    assert output.words() == ["good"]
    assert output.connected == 1


def test_lost_connection_is_made_again_without_an_event():
    notices = []
    output = Receiver(notices)
    wait_until(lambda: output.connected)
    output.lost("the broker is gone")
    wait_until(lambda: output.connected == 2)
    assert output.close(5)
    assert notices[0] == "receiver: the broker is gone"


def test_output_that_hangs_does_not_delay_the_end():
    output = Receiver([])
    output.open.clear()
    output.put(detected())
    start = time.monotonic()
    assert not output.close(0.2)
    assert time.monotonic() - start < 3
    output.open.set()


def test_dead_receiver_does_not_delay_the_end():
    output = Receiver([], down=OutputError("dead"))
    output.put(detected())
    start = time.monotonic()
    assert output.close(1)
    assert time.monotonic() - start < 3


def test_defect_in_an_output_is_seen():
    output = Receiver([], down=ZeroDivisionError())
    output.put(detected())
    wait_until(lambda: output.fault)
    assert isinstance(output.fault, ZeroDivisionError)


def test_events_age_by_a_clock_that_does_not_jump():
    event = detected(time="1999-01-01T00:00:00.000+00:00")
    assert event.age_s < 1
    now = datetime.fromisoformat(detected().time)
    assert abs(now - datetime.now(timezone.utc)) < timedelta(seconds=5)
    assert now.utcoffset() == timedelta(0)


# The history


@given(st.lists(st.integers(0, 25), max_size=12), st.integers(0, 200), st.integers(0, 200), st.integers(0, 100))
def test_history_gives_what_was_heard(sizes, start, end, origin):
    history, whole = History(16), np.arange(origin, origin + 400, dtype=np.int16)
    history.restart(origin)
    at = 0
    for size in sizes:
        history.add(whole[at : at + size])
        at += size
    assert history.end == origin + at
    assert history.start == max(origin, origin + at - 16)
    expected = np.arange(max(start, history.start), max(min(end, history.end), max(start, history.start)))
    assert np.array_equal(history.between(start, end), expected)


def test_history_forgets_at_a_gap():
    history = History(16)
    history.add(np.ones(10, np.int16))
    history.restart(50)
    history.add(np.full(3, 2, np.int16))
    assert history.between(0, 100).tolist() == [2, 2, 2]
    assert history.start == 50


# The ear


@pytest.fixture(scope="module")
def with_state(tmp_path_factory):
    """A network with state, which answers five times in an inference."""
    path = tmp_path_factory.mktemp("step") / "step.tflite"
    path.write_bytes(pack(GRAPH, METADATA))
    return str(path)


@pytest.mark.parametrize("name", ["commands12", "micro12", "with_state"])
@pytest.mark.parametrize("block", [1024, 16384])
def test_ear_goes_on_where_another_one_ends(demo_stream, name, block, request):
    """Ears that take over at any block hear what one ear hears alone."""
    file = request.getfixturevalue(name) if name == "with_state" else name
    shared = SharedModel(ModelSection(file=file, kernels="builtin"))
    base = shared.base(SourceSection())
    samples = soundfile.read(demo_stream, dtype="int16")[0]
    spotter = Spotter(shared.model)
    expected = spotter.process(samples) + spotter.flush()
    assert len(expected) > 2
    ear, history, found = Ear.made(shared, base, Tuning()), History(160_000), []
    for i, at in enumerate(range(0, len(samples), block)):
        part = samples[at : at + block]
        history.add(part)
        found += ear.spotter.process(part)
        if i % max(1, 32_000 // block) == 0:
            ear = Ear.made(shared, base, Tuning())
            ear.catch_up(history)
    assert found + ear.spotter.flush() == expected


def test_ear_takes_over_after_a_gap(demo_stream):
    shared = SharedModel(ModelSection(kernels="builtin"))
    base = shared.base(SourceSection())
    samples = soundfile.read(demo_stream, dtype="int16")[0]
    spotter, history = Ear.made(shared, base, Tuning()).spotter, History(160_000)
    spotter.skip(777)
    history.restart(777)
    half = len(samples) // 2 + 13
    history.add(samples[:half])
    found = spotter.process(samples[:half])
    ear = Ear.made(shared, base, Tuning())
    ear.catch_up(history)
    found += ear.spotter.process(samples[half:])
    spotter.reset()
    spotter.skip(777)
    assert found == spotter.process(samples)


def test_ear_refuses_what_the_model_has_not():
    shared = SharedModel(ModelSection())
    base = shared.base(SourceSection())
    with pytest.raises(ConfigError, match="'banana' is no keyword of this model; its keywords are yes, no"):
        Ear.made(shared, base, Tuning(keywords=("banana",)))
    state = Ear.made(shared, base, Tuning(keywords=("on", "off"), thresholds={"on": 0.9})).state("hall")
    assert (state.keywords, state.thresholds["on"], state.room) == (("on", "off"), 0.9, "hall")
    assert state.thresholds["off"] == base.threshold_of("off")
    assert set(state.possible) == set(state.thresholds) > {"stop"}


# Changes


def test_changes_are_kept(tmp_path):
    path = str(tmp_path / "state" / "changes.json")
    assert load_changes(path) == {}
    changes = {
        "kitchen": Tuning(sensitivity=0.25, keywords=("on", "off")),
        "hall": Tuning(thresholds={"on": 0.5}),
        "attic": Tuning(),
    }
    save_changes(path, changes)
    assert load_changes(path) == changes


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": 1}', '{"a": {"x": 1}}', '{"a": {"sensitivity": 2}}', '{"a": {"thresholds": []}}']
)
def test_changes_that_cannot_be_used(tmp_path, text):
    (tmp_path / "changes.json").write_text(text)
    with pytest.raises(ConfigError, match=r"changes\.json: saved changes cannot be used \(.*\); remove the file"):
        load_changes(str(tmp_path / "changes.json"))


def test_sensitivity_replaces_thresholds():
    tuning = Tuning(thresholds={"on": 0.9}).with_sensitivity(0.5)
    assert tuning == Tuning(sensitivity=0.5)
    assert tuning.with_thresholds({"on": 0.7}) == Tuning(sensitivity=0.5, thresholds={"on": 0.7})
    with pytest.raises(ConfigError, match=r"sensitivity must be a number from 0 to 1, got 1\.5"):
        tuning.with_sensitivity(1.5)


# The configuration


def read(tmp_path, text):
    (tmp_path / "serve.toml").write_text(text)
    return read_config(tmp_path / "serve.toml")


def test_configuration_has_defaults(tmp_path):
    config = read(tmp_path, "")
    assert config.sources == (SourceSection(),)
    assert (config.model, config.outputs) == (ModelSection(), {})


def test_configuration_of_several_rooms_and_outputs(tmp_path, monkeypatch):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("x\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "secrets"))
    config = read(
        tmp_path,
        """
        [[source]]
        name = "kitchen"
        sensitivity = 0.5
        thresholds = {on = 0.75}
        room = "rooms/kitchen.json"
        [[source]]
        name = "hall"
        ffmpeg = "rtsp://camera/stream"
        keywords = ["on", "off"]
        [model]
        file = "micro12"
        [jsonl]
        file = "/var/log/kws.jsonl"
        [[exec]]
        command = "true"
        [[exec]]
        command = "false"
        [[webhook]]
        url = "http://localhost:8123/x"
        secret_file = "token"
        """,
    )
    kitchen, hall = config.sources
    assert (kitchen.room, kitchen.thresholds) == (str(tmp_path / "rooms/kitchen.json"), {"on": 0.75})
    assert (hall.ffmpeg, hall.keywords) == ("rtsp://camera/stream", ("on", "off"))
    assert list(config.outputs) == ["jsonl", "exec 1", "exec 2", "webhook"]
    assert config.outputs["exec 2"].command == "false"
    assert config.outputs["jsonl"].file == "/var/log/kws.jsonl"
    assert secret(config.outputs["webhook"].secret_file) == "x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "no configuration of the service in TOML ("),
        ("a = 1", "unknown section [a]; known are service, source, model, jsonl,"),
        ("[jsonI]", "unknown section [jsonI] (did you mean 'jsonl'?)"),
        ("[exec]\ncommand='x'", "[exec] may be there several times: write [[exec]]"),
        ("[[jsonl]]", "jsonl must be one section [jsonl], got [{}]"),
        ("source = [1]", "[source] may be there several times: write [[source]]"),
        ("[[source]]\n[[source]]", "[[source]]: name 'microphone' is given twice"),
        ("[[source]]\nsensitvity = 1", "[source]: unknown setting 'sensitvity'; known are name, device,"),
        ("[[source]]\nsensitivity = 1.1", "[source]: sensitivity must be a number from 0 to 1, got 1.1"),
        ("[[source]]\nsensitivity = nan", "[source]: sensitivity must be a number from 0 to 1, got nan"),
        ("[[source]]\nname = ''", "[source]: name must be"),
        ("[[source]]\nname = 'a'\n[[source]]\nname = ''", "[[source]] 2: name must be"),
        ("[[exec]]\ncommand = 'a'\n[[exec]]", "[[exec]] 2: setting 'command' is missing"),
        ("[[source]]\nname = \"a\\nb\"", "[source]: name must be"),
        ("[[source]]\nfile = ''", "[source]: file must be a path, got ''"),
        ("[[source]]\nfile = 'x'\ndevice = 'y'", "[source]: file goes not with device"),
        ("[[source]]\nfile = 'x'\nrate = 16000", "[source]: rate is that of a microphone, and file is heard"),
        ("[[source]]\nformat = 'alsa'", "[source]: format is that of an address for ffmpeg, and there is none"),
        ("[[source]]\nthresholds = {on = 2}", "[source]: thresholds: 'on' must be a number from 0.001 to 1, got 2"),
        ("[[source]]\nthresholds = 0.5", "[source]: thresholds must be a table of names, each with a number from"),
        ("[[source]]\nkeywords = 'on'", "[source]: keywords must be a list of texts, got 'on'"),
        ("[model]\nthreads = '1'", "[model]: threads must be a whole number from 1 to 64, got '1'"),
        ("[model]\nthreads = true", "[model]: threads must be a whole number from 1 to 64, got True"),
        ("[model]\nruntime = 'onnx'", "[model]: runtime must be one of auto, litert"),
        ("[service]\ntelemetry_s = 0", "[service]: telemetry_s must be a number from 0.2 to 3600, got 0"),
        ("[[exec]]", "[exec]: setting 'command' is missing"),
        ("[mqtt]\nhost = ''", "[mqtt]: host must be a name or address without scheme, port and path, in ASCII letters"),
        ("[wyoming]\nhost = ''", "[wyoming]: host must be a name or address without scheme"),
        ("[mqtt]\nhost = 'mqtt://pi'", "[mqtt]: host must be a name or address without scheme"),
        ("[[exec]]\ncommand = 'x'\nshell = 1", "[exec]: shell must be true or false, got 1"),
        ("[[webhook]]\nurl = 'ftp://x'", "[webhook]: url must be an address such as http://"),
        ("[[webhook]]\nurl = 'http://x:99999/'", "[webhook]: url must be an address such as http://"),
        ("[[webhook]]\nurl = 'http://x/\\r\\nEvil: 1'", "[webhook]: url must be an address such as http://"),
        ("[[webhook]]\nurl = \"http://x/\\nEvil: 1\"", "[webhook]: url must be an address such as http://"),
        ("[[webhook]]\nurl = 'http://me:word@x/'", "[webhook]: url must hold no password; put it into a file"),
        ("[[webhook]]\nurl = 'http://x/'\nsecret_header = \"A: b\"", "[webhook]: secret_header must be the name of"),
    ],
)  # fmt: skip
def test_wrong_configuration(tmp_path, text, message):
    """One line names the file, the section, the key, the value, and what is allowed."""
    with pytest.raises(ConfigError) as wrong:
        read(tmp_path, text)
    assert str(wrong.value).startswith(f"{tmp_path}/serve.toml: {message}")
    assert "\n" not in str(wrong.value)


def test_configuration_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"serve\.toml: No such file or directory"):
        read_config(tmp_path / "serve.toml")


@pytest.mark.parametrize("name", ["jsonl", "exec", "webhook"])
def test_sections_describe_their_options(name):
    kind = output_section(name)
    assert kind.section == name in OUTPUTS
    assert kind.__doc__ and all(one.metadata["help"] for one in dataclasses.fields(kind))


def test_secret(tmp_path):
    with pytest.raises(ConfigError, match=r"none: cannot be read as a secret \(No such file"):
        secret(str(tmp_path / "none"))
    (tmp_path / "empty").write_text("\nx")
    with pytest.raises(ConfigError, match=r"empty: holds no secret in its first line"):
        secret(str(tmp_path / "empty"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"binary: cannot be read as a secret"):
        secret(str(tmp_path / "binary"))
    assert str(FileName()) == "a path"


def toml_blocks():
    """TOML of the pages that is a file of the service."""
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for i, text in enumerate(re.findall(r"^```toml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)):
            if set(parse_toml(text)) <= {"service", "source", "model", *OUTPUTS}:
                yield pytest.param(text, id=f"{page.stem}-{i}")


@pytest.mark.parametrize("text", list(toml_blocks()))
def test_files_in_the_docs_are_read(tmp_path, text):
    assert read(tmp_path, text).sources


# systemd's protocol


@pytest.mark.parametrize("abstract", [False, True])
def test_notifier(tmp_path, monkeypatch, abstract):
    name = f"\0kws-{tmp_path.name}-{id(tmp_path)}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(name)
        supervisor.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        notifier = Notifier()
        assert notifier.watchdog_s == 30
        notifier.send(READY=1, STATUS="hears")
        assert supervisor.recv(99) == b"READY=1\nSTATUS=hears"
        notifier.reloading()
        assert supervisor.recv(99).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        monkeypatch.setenv("WATCHDOG_PID", "1")
        assert Notifier().watchdog_s is None
    notifier.send(READY=1)  # a supervisor that is gone is no error


def test_events_are_of_known_kinds():
    assert {Detected, Telemetry, Reloaded} < set(Event.__subclasses__())
    assert set(Output.limits) == set(Event.__subclasses__())


def test_garbage_in_circles_is_freed_though_what_loads_at_the_start_is_passed_over():
    class Circle:
        def __init__(self):
            self.me = self

    early = Circle()
    gone = weakref.ref(early)
    gc.disable()
    try:
        memory.settle()
        assert gc.get_freeze_count() > 10_000
        late = weakref.ref(Circle())
        del early
        memory.tidy()
        assert late() is None and gone() is not None
        memory.settle()  # as after a reload
        assert gone() is None
    finally:
        gc.enable()
        gc.unfreeze()

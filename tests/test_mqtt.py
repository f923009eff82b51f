"""The MQTT output against a real mosquitto with authentication and TLS, as Home Assistant sees it."""

import base64
import contextlib
import dataclasses
import hashlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import soundfile

pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed here")

from kws_edge.errors import ConfigError
from kws_edge.service.mqtt.discovery import Topics, components, device, dump, parse_sensitivity, slug
from kws_edge.service.outputs.mqtt import MqttSection
from kws_edge.toml_files import parse_toml
from tests.conftest import need_program, wait_until
from tests.house import WORDS, House, detected, telemetry
from tests.mosquitto import PASSWORD, USER, Authority, Listener, Mosquitto

ROOT = Path(__file__).parent.parent
TOPICS = Topics("pi", "homeassistant")
CONFIG, EVENT = TOPICS.config("kitchen"), TOPICS.event("kitchen")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    need_program("openssl")
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def shared_broker(authority, tmp_path_factory):
    need_program("mosquitto")
    with Mosquitto(tmp_path_factory.mktemp("broker"), authority=authority) as one:
        yield one


@pytest.fixture
def broker(shared_broker):
    """A broker with TLS that keeps nothing of other tests, for tests that leave it running."""
    kept = retained(shared_broker)
    with Listener(shared_broker) as cleaner:
        for topic in kept:
            cleaner.publish(topic, "", retain=True)
    return shared_broker


@pytest.fixture
def own_broker(tmp_path):
    """A broker without TLS, for one test."""
    need_program("mosquitto")
    (tmp_path / "broker").mkdir()
    with Mosquitto(tmp_path / "broker") as one:
        yield one


@pytest.fixture
def password(tmp_path):
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    return path


@pytest.fixture
def settings(password):
    """Options that reach a broker."""

    def made(broker, **more):
        values = {"host": "localhost", "port": broker.port, "user": USER, "password_file": str(password), "id": "pi"}
        if broker.authority:
            values |= {"tls": True, "ca_file": str(broker.authority.ca)}
        return MqttSection(**(values | more))

    return made


@contextlib.contextmanager
def running(section, house):
    """The output at work, and what it says to people."""
    said = []
    output = section.open("mqtt", house, said.append)
    house.outputs_.append(output)
    output.start()
    try:
        yield output, said
    finally:
        assert output.close(2), "it does not end"
        house.outputs_.remove(output)
        if output.fault:
            raise output.fault


def announced(listener, config=CONFIG, wanted=lambda one: True):
    """Wait until a room is announced, with everything that follows."""
    found = listener.wait(config, lambda one: one.payload and wanted(one))
    listener.wait(TOPICS.announced)
    return found


def retained(broker):
    """The retained messages that the broker has now, by topic."""
    with Listener(broker) as late:
        time.sleep(0.3)
        return {one.topic: one for one in late.heard}


def test_a_command_arrives_with_tls_and_password(broker, settings):
    house = House("kitchen")
    house.states["kitchen"] = telemetry("kitchen")
    with Listener(broker) as listener, running(settings(broker), house) as (output, said):
        announced(listener)
        output.put(detected("kitchen", "stop"))
        event = listener.wait(EVENT)
        assert event.values | {"time": ""} == {
            "event_type": "stop", "score": 0.91, "threshold": 0.8, "time": "", "wake": False
        }  # fmt: skip
        assert not event.retain
        assert event.expiry_s in (4, 5)
        kept = retained(broker)
        assert EVENT not in kept
        assert kept[TOPICS.status].payload == b"online"
        assert kept[TOPICS.sensitivity("kitchen")].payload == b"0.5"
        assert kept[TOPICS.state("kitchen")].values["level_db"] == -31.2
        assert output.counts() == {"sent": 1, "dropped": 0, "failed": 0, "waiting": 0}
    assert said == []
    assert retained(broker)[TOPICS.status].payload == b"offline"


def test_each_room_is_a_device_with_all_words(broker, settings):
    house = House("kitchen", "Living room", "microphone")
    with Listener(broker) as listener, running(settings(broker), house):
        listener.wait(TOPICS.announced, lambda one: one.payload.count(b"/config") == 3)
        kept = retained(broker)
    for room, area in (("kitchen", "kitchen"), ("Living room", "Living room"), ("microphone", None)):
        told = kept[TOPICS.config(room)].values
        assert told["dev"].get("sa") == area
        assert told["dev"]["name"] == f"kws-edge {room}"
        assert told["avty_t"] == TOPICS.status
        assert told["cmps"]["command"]["evt_typ"] == list(WORDS)
        triggers = [one for one in told["cmps"].values() if one["p"] == "device_automation"]
        assert [(one["type"], one["stype"], one["pl"]) for one in triggers] == [("heard", word, word) for word in WORDS]
    names = [part["uniq_id"] for topic in kept if topic.endswith("/config")
             for part in kept[topic].values["cmps"].values() if "uniq_id" in part]  # fmt: skip
    assert len(names) == len(set(names)) == 21


def discovered(*rooms):
    """What is published for rooms, by topic."""
    return {
        TOPICS.config(room): dump(
            device(
                TOPICS, room, components(TOPICS, room, WORDS), name=f"kws-edge {room}", model="commands12", area=area
            )
        )
        for room, area in rooms
    }


def test_home_assistant_takes_the_discovery():
    """By its own validators. KWS_HA_PYTHON names a Python that has the package homeassistant."""
    python = os.environ.get("KWS_HA_PYTHON")
    if not python:
        pytest.skip("KWS_HA_PYTHON names no Python with Home Assistant")
    payloads = json.dumps(discovered(("kitchen", "kitchen"), ("Wohnküche", None)))
    command = [python, str(ROOT / "tests" / "home_assistant.py")]
    done = subprocess.run(command, input=payloads, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr[-2000:]
    print(done.stdout)
    assert "takes 34 components of 2 devices" in done.stdout


COMMON = {
    "p": str,
    "name": str,
    "uniq_id": str,
    "ic": str,
    "qos": int,
    "ent_cat": {"config", "diagnostic"},
    "val_tpl": str,
}
SENSOR = {"stat_t": str, "unit_of_meas": str, "stat_cla": {"measurement", "total_increasing"}, "sug_dsp_prc": int,
          "dev_cla": {"duration", "temperature"}}  # fmt: skip
FIELDS = {
    "event": {**COMMON, "stat_t": str, "evt_typ": list},
    "sensor": {**COMMON, **SENSOR},
    "binary_sensor": {**COMMON, "stat_t": str, "dev_cla": {"connectivity"}},
    "number": {**COMMON, "stat_t": str, "cmd_t": str, "min": int, "max": int, "step": float, "mode": {"slider"}},
    "device_automation": {
        "p": str, "atype": {"trigger"}, "type": str, "stype": str, "t": str, "pl": str, "val_tpl": str, "qos": int,
    },
}  # fmt: skip
REQUIRED = {
    "event": {"stat_t", "evt_typ", "uniq_id"}, "sensor": {"stat_t", "uniq_id"}, "binary_sensor": {"stat_t", "uniq_id"},
    "number": {"cmd_t", "uniq_id"}, "device_automation": {"atype", "type", "stype", "t"},
}  # fmt: skip
"""What the schemas of Home Assistant 2026.11 know and require, in its abbreviations."""


def test_the_discovery_field_by_field():
    for topic, payload in discovered(("kitchen", "kitchen"), ("Wohnküche", None)).items():
        assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", topic)
        values = json.loads(payload)
        assert set(values) == {"dev", "o", "avty_t", "cmps"}
        assert set(values["o"]) <= {"name", "sw", "url"}
        assert set(values["dev"]) <= {"ids", "name", "mf", "mdl", "sw", "sa"}
        assert values["dev"]["ids"]
        for part in values["cmps"].values():
            fields = FIELDS[part["p"]]
            assert set(part) <= set(fields), part
            assert set(part) >= REQUIRED[part["p"]], part
            for name, value in part.items():
                kind = fields[name]
                assert value in kind if isinstance(kind, set) else isinstance(value, kind), (part, name)


def test_telemetry_is_sent_seldom_but_a_missing_microphone_at_once(broker, settings):
    house = House("kitchen")
    with Listener(broker) as listener, running(settings(broker, telemetry_s=3600), house) as (output, _):
        announced(listener)
        for level in range(5):
            output.put(telemetry("kitchen", level_db=-float(level)))
        assert listener.wait(TOPICS.state("kitchen")).values["level_db"] == 0
        output.put(telemetry("kitchen", present=False, level_db=None))
        gone = listener.wait(TOPICS.state("kitchen"))
        assert gone.retain is False
        assert (gone.values["present"], gone.values["level_db"]) == (False, None)
        assert sum(one.topic == TOPICS.state("kitchen") for one in listener.heard) == 2


def test_sensitivity_is_taken_and_bad_values_are_refused(broker, settings):
    house, topic = House("kitchen"), TOPICS.sensitivity("kitchen")
    with Listener(broker) as listener, running(settings(broker), house) as (_, said):
        announced(listener)
        listener.publish(f"{topic}/set", "0.72")
        assert listener.wait(topic).payload == b"0.72"
        assert house.rooms()["kitchen"].sensitivity == 0.72
        for bad in ("2", ""):
            before = len(said)
            listener.publish(f"{topic}/set", bad)
            wait_until(lambda before=before: len(said) > before)
            assert said[-1] == f"mqtt: a sensitivity must be a number from 0 to 1, got {bad.encode()!r}"
            for _ in range(20):
                listener.publish(f"{topic}/set", "many")
            time.sleep(1)
            assert len(said) <= before + 2
        house.change("kitchen", sensitivity=None)
        assert listener.wait(topic).payload == b"None"
        listener.publish(f"{TOPICS.sensitivity('attic')}/set", "0.1")
        listener.publish(f"{topic}/set", "0.2", retain=True)
        assert listener.wait(topic).payload == b"0.2"
        assert sum(one.topic == CONFIG for one in listener.heard) == 1  # a change is no reason to announce again
    house.change("kitchen", sensitivity=0.6)
    with Listener(broker) as listener, running(settings(broker), house):
        announced(listener)
        time.sleep(0.3)
        assert house.rooms()["kitchen"].sensitivity == 0.6  # what somebody retained long ago counts no more
        listener.publish(f"{topic}/set", "", retain=True)


BAD = (
    b"2",
    b"",
    b"nan",
    b"-1",
    b"0x1",
    b"\xff\xfe",
    b"0." + b"1" * 10_000,
    b"1e400",
    "\u0660.\u0665".encode(),
    b"0.5\n",
)


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_sensitivity(bad):
    with pytest.raises(ConfigError, match="a sensitivity must be a number from 0 to 1, got") as error:
        parse_sensitivity(bad)
    assert len(str(error.value)) < 120


def test_discovery_comes_again_when_home_assistant_starts(broker, settings):
    house = House("kitchen", "hall")
    with Listener(broker) as listener, running(settings(broker), house):
        listener.wait(TOPICS.announced, lambda one: one.payload.count(b"/config") == 2)
        listener.forget()
        listener.publish(TOPICS.home_assistant, "offline")
        listener.publish(TOPICS.home_assistant, "online")
        listener.wait(TOPICS.config("hall"))
        assert sum(one.topic == CONFIG for one in listener.heard) == 1


def test_words_that_went_are_removed_at_a_reload(broker, settings):
    house = House("kitchen")
    with Listener(broker) as listener, running(settings(broker), house):
        announced(listener)
        house.change("kitchen", keywords=("stop", "go"))
        removal = listener.wait(CONFIG).values["cmps"]
        assert removal["heard_yes"] == {"p": "device_automation"}
        assert removal["command"]["evt_typ"] == ["stop", "go"]
        clean = listener.wait(CONFIG).values["cmps"]
        assert set(removal) - set(clean) == {f"heard_{word}" for word in WORDS if word not in ("stop", "go")}
        assert "heard_yes" not in retained(broker)[CONFIG].values["cmps"]


def test_a_model_without_operating_points_has_no_sensitivity(broker, settings):
    house = House("kitchen")
    house.change("kitchen", sensitivity=None, has_sensitivity=False)
    with Listener(broker) as listener, running(settings(broker), house):
        parts = listener.wait(CONFIG).values["cmps"]
        assert "sensitivity" not in parts and "command" in parts
        house.change("kitchen", has_sensitivity=True)  # another model
        assert listener.wait(CONFIG).values["cmps"]["sensitivity"]["p"] == "number"


def test_words_and_rooms_that_went_while_it_did_not_run_are_removed(broker, settings):
    attic = TOPICS.config("attic")
    with Listener(broker) as listener, running(settings(broker), House("kitchen", "attic")):
        listener.wait(TOPICS.announced, lambda one: one.payload.count(b"/config") == 2)
    assert attic in retained(broker)
    house = House("kitchen")
    house.change("kitchen", keywords=("stop",))
    with Listener(broker) as listener, running(settings(broker), house):
        removal = listener.wait(CONFIG, lambda one: b'"heard_yes":{"p":"device_automation"}' in one.payload)
        assert not removal.retain
        listener.wait(CONFIG, lambda one: b"heard_yes" not in one.payload)
        wait_until(lambda: any(one.topic == attic and not one.payload for one in listener.heard))
    kept = retained(broker)
    assert attic not in kept
    assert list(kept[TOPICS.announced].values) == [CONFIG]


@pytest.mark.parametrize("text", ["[]", "{", "\xff", '{"homeassistant/device/other_x/config": {}}', '{"a/b": {}}',
                                  '{"homeassistant/device/pi_x/config": {"a": []}}'])  # fmt: skip
def test_what_others_write_as_announced_removes_nothing(broker, settings, text):
    with Listener(broker) as listener:
        listener.publish(TOPICS.announced, text.encode("latin-1"), retain=True)
        listener.forget()
        with running(settings(broker), House("kitchen")) as (_, said):
            announced(listener)
            wait_until(lambda: said)
        assert said[0].startswith(f"mqtt: {TOPICS.announced}: ")
        assert all(one.payload for one in listener.heard)


def test_a_broker_that_is_killed_and_starts_again(own_broker, settings):
    house = House("kitchen")
    with running(settings(own_broker), house) as (output, said):
        output.put(detected("kitchen", "yes"))
        wait_until(lambda: output.counts()["sent"])
        own_broker.kill()
        wait_until(lambda: said)
        assert said[0].startswith("mqtt: the connection broke")
        output.put(detected("kitchen", "go", age_s=4.9))
        output.put(detected("kitchen", "stop"))
        time.sleep(0.2)
        own_broker.start()
        with Listener(own_broker) as listener:
            assert listener.wait(EVENT).values["event_type"] == "stop"
        kept = retained(own_broker)
        assert {CONFIG, TOPICS.status} <= set(kept)
        assert kept[TOPICS.status].payload == b"online"
        assert output.counts()["dropped"] == 1
        wait_until(lambda: said[-1] == "mqtt: works again")


def test_a_dead_broker_never_delays_and_a_full_queue_drops_the_oldest(settings, own_broker):
    own_broker.kill()
    with running(settings(own_broker), House("kitchen")) as (output, said):
        start = time.perf_counter()
        for i in range(1000):
            output.put(detected("kitchen", WORDS[i % 10]))
        assert time.perf_counter() - start < 0.5
        wait_until(lambda: said)
        counts = output.counts()
        assert counts["waiting"] == 32
        assert counts["dropped"] == 968
        own_broker.start()
        with Listener(own_broker) as listener:
            wait_until(
                lambda: sum(one.topic == EVENT for one in listener.heard) == 32 or not output.counts()["waiting"]
            )
        assert output.counts()["sent"] + output.counts()["dropped"] >= 1000


def test_a_broker_that_falls_silent_wedges_nothing(own_broker, settings):
    with running(settings(own_broker), House("kitchen")) as (output, said):
        output.put(detected("kitchen", "yes"))
        wait_until(lambda: output.counts()["sent"])
        own_broker.process.send_signal(signal.SIGSTOP)
        try:
            output.put(detected("kitchen", "stop"))
            start = time.perf_counter()
            output.put(detected("kitchen", "go"))
            assert time.perf_counter() - start < 0.1
            wait_until(lambda: any("was not acknowledged in 5 s" in one for one in said), 15)
            start = time.perf_counter()
            output.close(1)
            assert time.perf_counter() - start < 3
        finally:
            own_broker.process.send_signal(signal.SIGCONT)


SCRIPT = """
import sys, time
from kws_edge.service.outputs.mqtt import MqttSection
from tests.house import House
output = MqttSection(host="localhost", port=int(sys.argv[1]), user="kws", password_file=sys.argv[2], id="pi").open(
    "mqtt", House("kitchen"), print)
output.start()
time.sleep(60)
"""


def test_the_broker_says_that_a_killed_service_is_offline(own_broker, password):
    command = [sys.executable, "-c", SCRIPT, str(own_broker.port), str(password)]
    with Listener(own_broker) as listener, subprocess.Popen(command, cwd=ROOT) as process:
        try:
            listener.wait(TOPICS.status, lambda one: one.payload == b"online", 20)
        finally:
            process.kill()
        assert listener.wait(TOPICS.status).payload == b"offline"
    assert retained(own_broker)[TOPICS.status].payload == b"offline"


# paho-mqtt leaves a socket to the garbage collector if TLS fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"password_file": "wrong"}, "not authorized"),
        ({"host": "127.0.0.1"}, "its certificate is not trusted (IP address mismatch"),
        ({"ca_file": None}, "its certificate is not trusted (self-signed certificate"),
        ({"tls": False, "ca_file": None}, "closed the connection without an answer"),
    ],
)
def test_a_broker_that_must_not_be_used(broker, settings, tmp_path, change, message):
    (tmp_path / "wrong").write_text("guess\n")
    if "password_file" in change:
        change = {"password_file": str(tmp_path / "wrong")}
    with running(settings(broker, **change), House("kitchen")) as (output, said):
        wait_until(lambda: any(message in one for one in said))
        output.put(detected("kitchen", "stop"))
        assert output.counts()["sent"] == 0


def test_a_client_certificate(authority, settings, tmp_path):
    need_program("mosquitto")
    with Mosquitto(tmp_path, authority=authority, lines=("require_certificate true",)) as broker:
        with running(settings(broker), House("kitchen")) as (_, said):
            wait_until(lambda: said)
        own = {
            "certificate_file": str(authority.folder / "client.pem"),
            "key_file": str(authority.folder / "client.key"),
        }
        with running(settings(broker, **own), House("kitchen")) as (output, said):
            output.put(detected("kitchen", "stop"))
            wait_until(lambda: output.counts()["sent"] == 1)
            assert said == []


def test_two_devices_of_one_name_are_told(broker, settings):
    with running(settings(broker), House("kitchen")) as (first, said):
        first.put(detected("kitchen", "stop"))
        wait_until(lambda: first.counts()["sent"])
        with running(settings(broker), House("kitchen")):
            wait_until(lambda: said)
    assert "another client calls itself pi, too, give one of them another id" in said[0]


def test_what_the_broker_refuses_is_told_and_the_rest_goes_on(settings, tmp_path):
    need_program("mosquitto")
    (tmp_path / "acl").write_text(f"user {USER}\ntopic write kws-edge/pi/#\nuser homeassistant\ntopic readwrite #\n")
    with Mosquitto(tmp_path, lines=(f"acl_file {tmp_path / 'acl'}",)) as broker:
        with Listener(broker) as listener, running(settings(broker), House("kitchen")) as (output, said):
            output.put(detected("kitchen", "stop"))
            assert listener.wait(EVENT).values["event_type"] == "stop"
        assert f"mqtt: the broker refuses {CONFIG}: not authorized" in said


def test_topics_that_must_not_be_read_are_told_and_the_rest_goes_on(settings, tmp_path):
    """By the broker's plugin for dynamic security, because an access list in a file lets anybody subscribe."""
    need_program("mosquitto")
    plugin = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)
    if plugin is None:
        pytest.skip("mosquitto has no plugin for dynamic security here")
    salt = base64.b64encode(b"salt of 12 b").decode()
    digest = base64.b64encode(hashlib.pbkdf2_hmac("sha512", PASSWORD.encode(), b"salt of 12 b", 101)).decode()
    known = {"password": digest, "salt": salt, "iterations": 101}
    reader = {"rolename": "reader", "acls": [{"acltype": "subscribePattern", "topic": "#", "allow": True}]}
    rules = {
        "defaultACLAccess": {"publishClientSend": True, "publishClientReceive": True, "subscribe": False},
        "clients": [
            {"username": USER, "roles": [], **known},
            {"username": "homeassistant", "roles": [{"rolename": "reader"}], **known},
        ],
        "roles": [reader],
    }
    (tmp_path / "rules").write_text(json.dumps(rules))
    lines = (f"plugin {plugin}", f"plugin_opt_config_file {tmp_path / 'rules'}")
    with (
        Mosquitto(tmp_path, lines=lines) as broker,
        Listener(broker) as listener,
        running(settings(broker), House("kitchen")) as (output, said),
    ):
        output.put(detected("kitchen", "stop"))
        assert listener.wait(EVENT).values["event_type"] == "stop"
    told = "mqtt: the broker does not let this user read {}; allow it in its access list"
    assert said == [told.format(topic) for topic in (TOPICS.announced, TOPICS.home_assistant, TOPICS.changes)]


class Old(threading.Thread):
    """Stands before a broker as one that speaks MQTT 3.1.1 only."""

    def __init__(self, port, *, closes=False):
        super().__init__(daemon=True)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port, self.authority, self._behind, self._closes = self._server.getsockname()[1], None, port, closes
        self.levels = []
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        first = client.recv(4096)
        level = first[first.index(b"MQTT") + 4]
        self.levels.append(level)
        if level > 4:
            if not self._closes:
                client.sendall(b"\x20\x02\x00\x01")
            client.close()
            return
        behind = socket.create_connection(("127.0.0.1", self._behind))
        behind.sendall(first)
        for one, other in ((client, behind), (behind, client)):
            threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        one.close()


@pytest.mark.parametrize("closes", [False, True])
def test_a_broker_that_speaks_only_the_older_version(own_broker, settings, closes):
    old = Old(own_broker.port, closes=closes)
    with Listener(own_broker) as listener, running(settings(old), House("kitchen")) as (output, said):
        output.put(detected("kitchen", "stop"))
        event = listener.wait(EVENT)
        assert event.values["event_type"] == "stop"
        assert event.expiry_s is None
        wait_until(lambda: said and said[-1] == "mqtt: works again")
    assert old.levels == [5, 4]


def test_the_service_tells_a_broker_all_that_detect_hears(broker, password, run_cli, demo_stream, tmp_path):
    """The whole command, with TLS, a reload by SIGHUP, and its end."""
    found = [json.loads(line)["keyword"] for line in run_cli("detect", demo_stream, "--json").stdout.splitlines()]
    os.mkfifo(tmp_path / "pipe")
    config = (
        f'[[source]]\nname = "kitchen"\nfile = "{tmp_path / "pipe"}"\n'
        f'[mqtt]\nhost = "localhost"\nport = {broker.port}\nuser = "{USER}"\npassword_file = "{password}"\n'
        f'tls = true\nca_file = "{broker.authority.ca}"\nid = "pi"\n'
    )
    (tmp_path / "serve.toml").write_text(config)
    command = [sys.executable, "-m", "kws_edge", "serve", "--config", "serve.toml"]
    with Listener(broker) as listener, subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        try:
            with open(tmp_path / "pipe", "wb") as pipe:
                pipe.write(b".snd" + struct.pack(">5I", 24, 0xFFFFFFFF, 3, 16_000, 1))  # AU, without an end
                samples = soundfile.read(demo_stream, dtype="int16")[0]
                pipe.write(samples.astype(">i2").tobytes())
                pipe.flush()
                wait_until(lambda: sum(one.topic == EVENT for one in listener.heard) == len(found), 30)
                (tmp_path / "serve.toml").write_text(config.replace("[mqtt]", 'keywords = ["stop", "go"]\n[mqtt]'))
                process.send_signal(signal.SIGHUP)

                def removed():
                    pipe.write(bytes(3200))  # a change holds from the next inference on
                    pipe.flush()
                    heard = [one.payload for one in listener.heard if one.topic == CONFIG]
                    return any(b'"heard_yes":{"p":"device_automation"}' in one for one in heard)

                wait_until(removed, 20)
                listener.wait(CONFIG, lambda one: b"heard_yes" not in one.payload)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, process.stderr.read()
        assert listener.wait(TOPICS.status).payload == b"offline"
    assert [one.values["event_type"] for one in listener.heard if one.topic == EVENT] == found
    assert len(found) == 13


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "setting 'host' is missing"),
        ({"host": "h", "port": 70_000}, "[mqtt]: port must be a whole number from 1 to 65535, got 70000"),
        ({"host": "h", "id": "My Pi"}, "[mqtt]: id must be 1 to 40 small letters, digits and underscores, got 'My Pi'"),
        ({"host": "h", "prefix": "a/#"}, "[mqtt]: prefix must be a topic without wildcards, got 'a/#'"),
        ({"host": "h", "ca_file": "x"}, "[mqtt]: ca_file is of no use without tls = true"),
        ({"host": "h", "password_file": "x"}, "[mqtt]: password_file needs user, too"),
        ({"host": "h", "tls": True, "key_file": "x"}, "[mqtt]: key_file needs certificate_file, too"),
        ({"host": "h", "tls": True, "ca_file": "none.pem"}, "[mqtt]: none.pem: no such file"),
        ({"host": "h", "tls": True, "ca_file": __file__}, "test_mqtt.py holds no certificates"),
        ({"host": "h", "tls": True, "certificate_file": __file__}, "test_mqtt.py and its key do not work"),
        ({"host": "h", "user": "u", "password_file": "none"}, "none: cannot be read as a secret"),
    ],
)
def test_settings_that_cannot_work(values, message):
    with pytest.raises(ConfigError) as error:
        MqttSection.from_dict(values).check()
    assert message in str(error.value)


def test_a_password_in_clear_text_is_told(password):
    said = []
    section = MqttSection(host="broker.lan", user="u", password_file=str(password))
    section.open("mqtt", House(), said.append)
    assert said == ["mqtt: the password goes to broker.lan in clear text; set tls = true"]
    dataclasses.replace(section, host="127.0.0.1").open("mqtt", House(), said.append)
    assert len(said) == 1


def test_a_credential_of_systemd(tmp_path, monkeypatch):
    (tmp_path / "mqtt-password").write_text("from systemd\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    section = MqttSection(host="h", user="u", password_file="mqtt-password").located("/somewhere")
    assert section.broker().password == "from systemd"


def test_without_paho_one_line_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['paho'] = None\n"
        "from kws_edge.service.outputs.mqtt import MqttSection\n"
        "MqttSection(host='h').check()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith(
        "kws_edge.errors.KwsError: [mqtt] needs paho-mqtt: pip install '.[mqtt]'"
    )


def test_the_section_alone_loads_no_library():
    code = "import sys, kws_edge.service.outputs.mqtt; print({'paho', 'ssl', 'asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_names_make_topics():
    names = (
        "kitchen",
        "Kitchen",
        "küche",
        "kuche",
        "living room",
        "living_room",
        "日本",
        "a" * 200,
        "a" * 201,
        "on/off",
    )
    slugs = [slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    assert all(one and one.isascii() and one.replace("_", "a").isalnum() and len(one) < 110 for one in slugs)


def test_the_identifier_stays_and_tells_nothing():
    section = MqttSection(host="h")
    assert section.device_id == MqttSection(host="other").device_id
    assert section.device_id.startswith("kws_")
    with contextlib.suppress(OSError):
        assert section.device_id[4:] not in Path("/etc/machine-id").read_text()


def test_the_page_names_every_option():
    (text,) = re.findall(r"^```toml\n(.*?)^```$", (ROOT / "docs" / "reference" / "mqtt.md").read_text(), re.M | re.S)
    values = parse_toml(re.sub(r"^# (?=\w+ = )", "", text, flags=re.M))["mqtt"]
    assert list(values) == [one.name for one in dataclasses.fields(MqttSection)]
    section = MqttSection.from_dict(values)
    shown = {name for name in values if re.search(rf"^{name} =", text, re.M)} - {"host"}
    assert {name: getattr(section, name) for name in shown} == {
        name: getattr(MqttSection(host="h"), name) for name in shown
    }

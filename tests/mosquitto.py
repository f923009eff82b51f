"""A real MQTT broker for tests: mosquitto with authentication and TLS, which can be killed and started again."""

from __future__ import annotations

import json
import queue
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from tests.conftest import wait_until
from tests.house import free_port

USER, PASSWORD = "kws", "correct horse"


def openssl(folder: Path, *arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], cwd=folder, check=True, capture_output=True)


class Authority:
    """Certificates: of an authority, and by it of a server on localhost and of a client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subject = ("-subj", "/CN=test authority", "-days", "2", "-nodes", "-newkey", "rsa:2048")
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        openssl(folder, "req", "-x509", *subject, *usage, "-keyout", "ca.key", "-out", "ca.pem")
        self.sign("server", "subjectAltName=DNS:localhost")
        self.sign("client", "extendedKeyUsage=clientAuth")

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def sign(self, name: str, extension: str) -> None:
        (self.folder / f"{name}.ext").write_text(extension)
        request = ("-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key")
        openssl(self.folder, "req", *request, "-out", f"{name}.csr")
        by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
        openssl(self.folder, "x509", "-req", "-in", f"{name}.csr", *by, "-out", f"{name}.pem")


class Mosquitto:
    """A broker on a port of its own. With `authority` it speaks TLS only. It forgets everything when it ends."""

    def __init__(self, folder: Path, *, authority: Authority | None = None, lines: tuple[str, ...] = ()) -> None:
        self.port = free_port()
        passwords = folder / "passwords"
        passwords.write_text("")
        passwords.chmod(0o600)
        for user in (USER, "homeassistant"):
            subprocess.run(["mosquitto_passwd", "-b", passwords, user, PASSWORD], check=True, capture_output=True)
        config = [f"listener {self.port} 127.0.0.1", "allow_anonymous false", f"password_file {passwords}", "user root"]
        if authority:
            names = {"cafile": "ca.pem", "certfile": "server.pem", "keyfile": "server.key"}
            config += [f"{key} {authority.folder / name}" for key, name in names.items()]
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join([*config, *lines]) + "\n")
        self._log = folder / "mosquitto.log"
        self.authority = authority
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def start(self) -> None:
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen(["mosquitto", "-c", self._config, "-v"], stdout=log, stderr=log)
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


class Heard(NamedTuple):
    topic: str
    payload: bytes
    retain: bool
    expiry_s: int | None

    @property
    def values(self) -> Any:
        return json.loads(self.payload)


class Listener:
    """Another client, as Home Assistant is one: it hears every topic, and publishes."""

    def __init__(self, broker: Mosquitto) -> None:
        self.heard: list[Heard] = []
        self._new: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5, reconnect_on_failure=False)
        self._client.username_pw_set("homeassistant", PASSWORD)
        if broker.authority:
            self._client.tls_set(str(broker.authority.ca))
        self._ready = False
        self._client.on_subscribe = lambda *_: setattr(self, "_ready", True)
        self._client.on_message = self._take
        self._client.connect("localhost", broker.port)
        self._client.loop_start()
        self._client.subscribe("#", 1)
        wait_until(lambda: self._ready)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, client, data, message) -> None:
        expiry = getattr(message.properties, "MessageExpiryInterval", None)
        one = Heard(message.topic, message.payload, message.retain, expiry)
        self.heard.append(one)
        self._new.put(one)

    def publish(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(5)

    def wait(self, topic: str, wanted=lambda one: True, seconds: float = 10) -> Heard:
        """The next message of this topic that is wanted. Messages before it are passed over."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                one = self._new.get(timeout=left)
            except queue.Empty:
                break
            if one.topic == topic and wanted(one):
                return one
        raise AssertionError(f"nothing on {topic} in {seconds} s; heard {[one.topic for one in self.heard]}")

    def forget(self) -> None:
        while not self._new.empty():
            self._new.get()
        self.heard.clear()

import dataclasses
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from firmware_export import write_c_array
from kws_edge import ModelError, pack, shipped_models, unpack
from tests.conftest import assert_one_line_error

pytestmark = pytest.mark.firmware


def test_c_array_holds_the_flatbuffer(tmp_path):
    path = Path(shipped_models()["commands12"])
    flatbuffer, metadata = unpack(path.read_bytes(), "shipped")
    header, source = write_c_array(path, tmp_path / "a")
    text = source.read_text()
    body = text[text.index("{") : text.index("}")]
    assert bytes(int(value, 16) for value in re.findall(r"0x([0-9a-f]{2})", body)) == flatbuffer
    assert "alignas(16) const" in text
    assert f"kws_model_data_len = {len(flatbuffer)};" in header.read_text()
    assert metadata.frontend_config.hash in text.splitlines()[0]
    again = write_c_array(path, tmp_path / "b")
    assert [p.read_bytes() for p in again] == [header.read_bytes(), source.read_bytes()]


def test_c_array_compiles(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    _, source = write_c_array(shipped_models()["commands12"], tmp_path)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
    subprocess.run(["g++", *flags, "-c", source, "-o", tmp_path / "m.o"], check=True)


def test_texts_cannot_continue_a_comment(tmp_path):
    """This includes the trigraph of a backslash at the end of the first line."""
    flatbuffer, metadata = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")
    for i, end in enumerate(["\\", "??/", "*/", "\n#error"]):
        licence = f"of my own {end}"
        (tmp_path / f"{i}.tflite").write_bytes(pack(flatbuffer, dataclasses.replace(metadata, licence=licence)))
        _, source = write_c_array(tmp_path / f"{i}.tflite", tmp_path / str(i))
        assert "Licence of the model: of my own" in source.read_text().splitlines()[0]
        if shutil.which("g++"):
            command = ["g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-c", source, "-o", tmp_path / "m.o"]
            subprocess.run(command, check=True)


def test_command(run_cli, tmp_path):
    done = run_cli("c-array", "commands12", "-o", "out", package="firmware_export")
    assert done.returncode == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["kws_model_data.cc", "kws_model_data.h"]
    (tmp_path / "page.tflite").write_text("<html>")
    failed = run_cli("c-array", "page.tflite", "-o", "out", package="firmware_export")
    assert_one_line_error(failed, "web page", program="kws-firmware")
    failed = run_cli("c-array", "commands12", "-o", "page.tflite", package="firmware_export")
    assert_one_line_error(failed, "page.tflite", program="kws-firmware")


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match="no such file, and no shipped model of that name"):
        write_c_array(tmp_path / "missing.tflite", tmp_path)


@pytest.mark.parametrize("command", [("c-array", "-o", "out"), ("arena",)], ids=["c-array", "arena"])
def test_models_that_are_no_files(run_cli, tmp_path, command):
    """A pipe without a writer, a device without an end, a folder, and a name of nothing are refused at once."""
    if command[0] == "arena":
        pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")
    os.mkfifo(tmp_path / "pipe")
    for model, reason in [
        ("pipe", "is a pipe or a device"),
        ("/dev/zero", "is a pipe or a device"),
        (".", "is a folder"),
        ("comands12", "shipped are commands12"),
    ]:
        failed = run_cli(command[0], model, *command[1:], package="firmware_export", timeout=60)
        assert_one_line_error(failed, model, reason, program="kws-firmware")


def test_arena(run_cli):
    pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")
    done = run_cli("arena", "micro12", "--json", package="firmware_export")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["total"] == values["tensors"] + values["persistent"] <= 32 * 1024
    assert values["macs"] <= 3_000_000
    # TFLite Micro runs the model in an arena of that size, whose ends it aligns, but not in one of half the size.
    from tflite_micro import runtime

    flatbuffer, _ = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")
    assert runtime.Interpreter.from_bytes(flatbuffer, arena_size=values["total"] + 64)
    with pytest.raises(RuntimeError):
        runtime.Interpreter.from_bytes(flatbuffer, arena_size=values["total"] // 2)
    text = run_cli("arena", "micro12", package="firmware_export").stdout.decode()
    assert f"arena {values['total']:,} bytes" in text


def test_arena_of_no_model_is_explained(run_cli, tmp_path):
    pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")
    (tmp_path / "text.tflite").write_text("not a model")
    failed = run_cli("arena", "text.tflite", package="firmware_export")
    assert_one_line_error(failed, "text.tflite", program="kws-firmware")
    assert_one_line_error(run_cli("arena", "gone", package="firmware_export"), "gone", program="kws-firmware")

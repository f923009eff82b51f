import re
import shutil
import subprocess

import pytest

from firmware_export import write_c_array
from kws_edge import ModelError, shipped_models, unpack
from tests.conftest import assert_one_line_error


def test_c_array_holds_the_flatbuffer(tmp_path):
    path = shipped_models()["commands12"]
    flatbuffer, metadata = unpack(path.read_bytes(), "shipped")
    header, source = write_c_array(path, tmp_path / "a")
    text = source.read_text()
    body = text[text.index("{") : text.index("}")]
    assert bytes(int(value, 16) for value in re.findall(r"0x([0-9a-f]{2})", body)) == flatbuffer
    assert "alignas(16) const" in text
    assert f"kws_model_data_len = {len(flatbuffer)};" in header.read_text()
    assert metadata.front_end.hash in text.splitlines()[0]
    again = write_c_array(path, tmp_path / "b")
    assert [p.read_bytes() for p in again] == [header.read_bytes(), source.read_bytes()]


def test_c_array_compiles(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    _, source = write_c_array(shipped_models()["commands12"], tmp_path)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
    subprocess.run(["g++", *flags, "-c", source, "-o", tmp_path / "m.o"], check=True)


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
    with pytest.raises(ModelError, match="cannot be read"):
        write_c_array(tmp_path / "missing.tflite", tmp_path)

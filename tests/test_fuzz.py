"""Runs every parser on hostile input, in CI for 20 seconds each; see tests/fuzz."""

import os

import pytest

from tests import fuzz
from tests.conftest import need_program
from tests.fuzz.__main__ import run

pytestmark = [pytest.mark.host, pytest.mark.fuzz]

SECONDS = 20 if os.environ.get("CI") else 2


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xdist_group(f"fuzz {name}")) for name in fuzz.TARGETS]
)
def test_fuzz_targets_for_every_parser(name, tmp_path):
    pytest.importorskip("atheris", exc_type=ImportError, reason="atheris is not installed here")
    if name == "package":
        need_program("dpkg-deb")
    passed, said = run(name, SECONDS, tmp_path)
    print(said)
    assert passed, said

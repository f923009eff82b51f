import doctest
import importlib
import inspect
import pkgutil
import pydoc
import re

import pytest

import kws_edge

PUBLIC = sorted(set(kws_edge.__all__))
MODULES = ["kws_edge"] + [
    one.name for one in pkgutil.walk_packages(kws_edge.__path__, "kws_edge.") if not one.name.endswith("__main__")
]
WITH_MICROPHONE = ("kws_edge.audio.devices", "kws_edge.audio.microphone")
"""Whose examples tests/test_microphone.py runs."""


def test_all_is_sorted_and_complete():
    assert len(PUBLIC) == len(kws_edge.__all__)
    assert all(hasattr(kws_edge, name) for name in PUBLIC)  # some are loaded then
    defined = {
        name for name, value in vars(kws_edge).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert defined == set(PUBLIC)
    assert set(PUBLIC) <= set(dir(kws_edge))
    with pytest.raises(AttributeError, match="no attribute 'Microfone'"):
        _ = kws_edge.Microfone


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_is_documented(name):
    value = getattr(kws_edge, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return
    assert inspect.getdoc(value), name
    if inspect.isclass(value):
        for method, function in vars(value).items():
            if not method.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
                assert inspect.getdoc(getattr(value, method)), f"{name}.{method}"


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_has_an_example(name):
    value = getattr(kws_edge, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(value))
    assert examples, name
    assert not any(one.options.get(doctest.SKIP) for one in examples), name


def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = {name: doctest.testmod(importlib.import_module(name)) for name in MODULES if name not in WITH_MICROPHONE}
    assert not [name for name, result in done.items() if result.failed]
    assert sum(result.attempted for result in done.values()) > 100


def test_modules_export_what_they_declare():
    declared = {name: getattr(importlib.import_module(name), "__all__", ()) for name in MODULES}
    assert sum(map(bool, declared.values())) > 20
    for module, names in declared.items():
        assert all(hasattr(importlib.import_module(module), name) for name in names), module


def _is_there(name, module):
    """Whether a docstring of `module` may call something by this name."""
    if name.startswith("kws_edge."):
        return pydoc.locate(name) is not None
    first = name.split(".")[0]
    classes = [c for c in vars(module).values() if inspect.isclass(c)]
    return hasattr(module, first) or any(hasattr(c, first) for c in classes)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_refer_to_what_is_there(name):
    module = importlib.import_module(name)
    roles = re.findall(r":(?:class|func|meth|data|attr|mod):`~?([\w.]+)`", inspect.getsource(module))
    outside = ("numpy.", "time.")
    assert [role for role in roles if not role.startswith(outside) and not _is_there(role, module)] == []


def test_errors_share_a_root():
    for name in ("AudioError", "ConfigError", "ModelError", "RuntimeUnavailableError"):
        assert issubclass(getattr(kws_edge, name), kws_edge.KwsError)

import importlib
import inspect
import pkgutil

import pytest

import kws_edge

PUBLIC = sorted(set(kws_edge.__all__))


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


def test_modules_export_what_they_declare():
    modules = [
        one.name for one in pkgutil.walk_packages(kws_edge.__path__, "kws_edge.") if not one.name.endswith("__main__")
    ]
    declared = {name: getattr(importlib.import_module(name), "__all__", ()) for name in modules}
    assert sum(map(bool, declared.values())) > 20
    for module, names in declared.items():
        assert all(hasattr(importlib.import_module(module), name) for name in names), module


def test_errors_share_a_root():
    for name in ("AudioError", "ConfigError", "ModelError", "RuntimeUnavailableError"):
        assert issubclass(getattr(kws_edge, name), kws_edge.KwsError)

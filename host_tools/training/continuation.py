"""Continues a run. It must have the same options, data and weights as at its beginning, but may get more epochs."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from host_tools.config import StageConfig, WeightsConfig
from host_tools.data.manifest import fingerprint
from host_tools.errors import TrainingError
from host_tools.networks.own_network import is_own, source_of
from host_tools.options import flag
from host_tools.sampling.coverage import check_sources
from host_tools.training.curves import epochs_done
from host_tools.training.run import CONFIG, Run, load_run
from host_tools.training.start import weight_files
from kws_edge.config import FrontendConfig

__all__ = ["check_same_identity", "check_same_options", "checksums", "identity", "lengthened", "run_in"]


def run_in(folder: Path) -> Run | None:
    """The run in a folder, or None."""
    return load_run(folder) if (folder / CONFIG).exists() else None


def lengthened(config: StageConfig, run: Run) -> StageConfig:
    """`config`, changed so that training goes on with a finished run of fewer epochs.

    If the run has no fewer epochs, `config` is returned as it is, and :func:`check_same_options` decides.

    Raises
    ------
    TrainingError
        If the run is not finished, or cannot be lengthened by epochs.
    """
    before = run.config.optim
    if config.optim.epochs <= before.epochs:
        return config
    if before.minutes or before.words_first:
        what = "--minutes" if before.minutes else "--words-first"
        raise TrainingError(
            f"{run.folder}: trained with {what}, and is not lengthened by --epochs: go on from its weights with"
            f" --start {shlex.quote(str(run.folder))} in another folder"
        )
    done = epochs_done(run.folder)
    if done < before.epochs:
        raise TrainingError(
            f"{run.folder}: is at epoch {done} of {before.epochs}; finish it with --epochs {before.epochs}, then"
            " lengthen it"
        )
    return config.changed(lengthened=(*before.lengthened, before.epochs))


def check_same_options(run: Run, config: StageConfig) -> None:
    """Raise an error that names each option that differs from the run's, if any.

    A run may get more time. It may get more epochs if `config` says that it was lengthened.
    """
    free = {"minutes"}
    if config.optim.epochs != run.config.optim.epochs:
        free.add("lengthened")  # it is named by its epochs
    if config.optim.lengthened == (*run.config.optim.lengthened, run.config.optim.epochs):
        free |= {"epochs", "lengthened"}
    before, now = run.config.settings(), config.settings()
    changed = [
        f"{_named(name)} {_written(before[name])}, not {_written(value)}"
        for name, value in now.items()
        if before[name] != value and name not in free
    ]
    if changed:
        raise TrainingError(
            f"{run.folder} holds a run with {'; '.join(changed)}. Repeat what it was made with, or choose another"
            f" folder with -o (--start {shlex.quote(str(run.folder))} goes on from its weights)"
        )


def _named(name: str) -> str:
    """The option's flag on the command line, or its text in help if it has no flag."""
    about = StageConfig.options()[name].metadata
    return flag(name) if about.get("flag", True) else about.get("metavar", name)


def _written(value: object) -> str:
    values = value if isinstance(value, list) else [value]
    return " ".join(shlex.quote(str(one).removesuffix(".0")) for one in values)


def identity(
    config: StageConfig, weights: WeightsConfig, frontend_config: FrontendConfig, labels: tuple[str, ...]
) -> dict[str, dict]:
    """The identity of the data, of the weights that it takes and of the user's own network, for a run's record.

    Parameters
    ----------
    config : StageConfig
    weights : WeightsConfig
        Of the whole training, where `config` is a part of it.
    frontend_config : FrontendConfig
    labels : tuple of str

    Raises
    ------
    DatasetError
        If the data cannot be used, as far as the names of files tell. Files are not read before.
    TrainingError
        If the module of the network, or a run whose weights it takes, is missing.
    """
    check_sources(config.data, frontend_config, labels, seed=config.seed)
    source = {"network": source_of(config.network.model)} if is_own(config.network.model) else {}
    taken = {"sources": config.data.folders(), "weights": weight_files(weights)}
    return {**source, **{name: fingerprint(files) for name, files in taken.items()}}


def check_same_identity(run: Run, now: dict[str, dict]) -> None:
    """Raise an error that says what differs from the run's identity, if anything. `now` comes from :func:`identity`."""
    if lines := _differences(run.record["sources"], now["sources"], _described):
        raise TrainingError(
            f"{run.folder} holds a run on other data: {'; '.join(lines)}. Put the data back as they were, or choose"
            " another folder"
        )
    if lines := _differences(run.record.get("weights", {}), now["weights"], _summed):
        raise TrainingError(
            f"{run.folder} holds a run that took other weights: {'; '.join(lines)}. Put them back as they were, or"
            " choose another folder"
        )
    if "network" in now and run.record["network"]["sha256"] != now["network"]["sha256"]:
        raise TrainingError(
            f"{run.folder} holds a run of {now['network']['file']} as it was before it changed; choose another folder"
        )


def checksums(identity: Mapping[str, dict]) -> dict[str, str]:
    """What :func:`identity` gives as a text for each option, by its name on the command line."""
    files = {**identity["sources"], **identity["weights"]}
    found = {_named(name): " ".join(one["sha256"] for one in taken) for name, taken in files.items()}
    return found | ({"--model": identity["network"]["sha256"]} if "network" in identity else {})


def _differences(
    before: Mapping[str, list[dict]], now: Mapping[str, list[dict]], told: Callable[[list[dict]], str]
) -> list[str]:
    """What is no longer the same, by its checksums: a line for each option."""
    pairs = {name: (before.get(name, []), now.get(name, [])) for name in sorted({*before, *now})}
    return [
        f"{name}: was {told(old)}, is {told(new)}"
        for name, (old, new) in pairs.items()
        if [one["sha256"] for one in old] != [one["sha256"] for one in new]
    ]


def _summed(files: list[dict]) -> str:
    return " and ".join(f"{one['path']} ({one['sha256'][:8]})" for one in files) or "none"


def _described(folders: list[dict]) -> str:
    texts = (f"{one['path']} ({one['files']} files, {one['bytes']:,} bytes)" for one in folders)
    return " and ".join(texts) or "none"

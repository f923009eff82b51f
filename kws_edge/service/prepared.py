"""A configuration made ready: the model and what each room hears with it, checked, without any effect yet."""

from __future__ import annotations

from collections.abc import Callable

from kws_edge.errors import ConfigError
from kws_edge.service.config import Config
from kws_edge.service.ear import Ear, SharedModel
from kws_edge.service.saved import changes_path, load_changes
from kws_edge.service.tuning import Tuning
from kws_edge.text import shown

__all__ = ["prepared"]


def prepared(config: Config, notice: Callable[[str], None]) -> tuple[SharedModel, dict[str, Ear]]:
    """The model and the ears of a configuration.

    Parameters
    ----------
    config : Config
    notice : callable
        Called with a text for people.

    Raises
    ------
    KwsError
        If something in the configuration cannot work.
    """
    shared = SharedModel(config.model)
    if shared.taught and shared.taught.words.repaired:
        notice(f"warning: {shared.taught.words.repaired}")
    saved_path = changes_path(config.service.state)
    saved = load_changes(saved_path)
    ears = {}
    for source in config.sources:
        with config.blamed(source, f"source {shown(source.name)}"):
            base = shared.base(source)
            ear = Ear.made(shared, base, Tuning.of(source))
        if source.name in saved:
            try:
                ear = Ear.made(shared, base, saved[source.name])
            except ConfigError as error:
                notice(f"{source.name}: what was saved is not used: {error}")
            else:
                notice(f"{source.name}: as saved in {saved_path}")
        ears[source.name] = ear
    config.check_outputs(shared.keywords)
    if not config.outputs:
        notice("nobody is told of detections: add a section such as [jsonl] or [mqtt]")
    return shared, ears

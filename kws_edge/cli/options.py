"""Options that several commands share."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from kws_edge.cli.me import load_me, tell_of_others
from kws_edge.cli.parser import Parser
from kws_edge.cli.taught import taught_words
from kws_edge.config import DetectorConfig, FrontendConfig
from kws_edge.detection.room_profile import RoomProfile, is_there, profile_path
from kws_edge.detection.sensitivity import OWN, SENSITIVITY
from kws_edge.errors import ConfigError, KwsError, UsageError
from kws_edge.labels import is_keyword
from kws_edge.model.file import Metadata
from kws_edge.model.model import DEFAULT_MODEL, Model, read_model, shipped_models
from kws_edge.model.runtime import KERNELS, RUNTIMES, THREADS
from kws_edge.presets import PRESETS, preset
from kws_edge.ranges import number
from kws_edge.spotter import Spotter, detector_of
from kws_edge.text import parse_json, printable, read_text, shown

BUDGET = number(1e-6, 1e6)
"""False accepts per hour."""


_SETTINGS = ("armed_s", "smoothing_ms", "speech_margin", "refractory_ms", "step_ms")
"""The numeric settings of the detector that have options."""


def add_model(parser: Parser, *, positional: bool = False, compare: bool = False) -> None:
    """Add the options that choose the model and how it runs; with `compare`, lists of runtimes and of threads."""
    group = parser.add_argument_group("model")
    about = f"a shipped model ({', '.join(shipped_models())}) or a .tflite file"
    if positional:
        parser.add_argument("model", nargs="?", default=DEFAULT_MODEL, metavar="MODEL", help=about)
    else:
        group.add_argument("--model", default=DEFAULT_MODEL, metavar="MODEL", help=about)
    _add_foreign(group)
    if compare:
        group.add_argument(
            "--runtime",
            type=_runtimes,
            default=["auto"],
            metavar="A,B,...|all",
            help=f"TFLite runtimes to compare, of {', '.join(RUNTIMES)}; all: those that load; default: the first that "
            "loads",
        )
        group.add_argument(
            "--threads", type=_listed(THREADS), default=[1], metavar="N,M,...", help="threads to compare"
        )
    else:
        group.add_argument(
            "--runtime", choices=("auto", *RUNTIMES), default="auto", help="TFLite runtime; auto: the first that loads"
        )
        group.add_argument("--threads", type=THREADS, default=1, metavar="N", help="threads of the runtime")
    add_kernels(group)


def add_kernels(parser: argparse._ActionsContainer) -> None:
    """Add the option that chooses the runtime's kernels."""
    parser.add_argument(
        "--kernels",
        choices=KERNELS,
        default="fast",
        help="the runtime's kernels; fast: the runtime's own choice; builtin: the same bits in every runtime except "
        "LiteRT on Arm; reference: the same bits everywhere, closest to TFLite Micro, very slow",
    )


def add_foreign(parser: argparse.ArgumentParser) -> None:
    """Add the options for what a model file from elsewhere does not say."""
    _add_foreign(parser.add_argument_group("model"))


def _add_foreign(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--labels", metavar="A,B,...|FILE", help="labels of a foreign model: a list, or a file with one on each line"
    )
    group.add_argument(
        "--frontend",
        metavar="NAME|FILE",
        help=f"front end of a foreign model: {', '.join(PRESETS)}, or a JSON file of settings",
    )


def add_detector(parser: Parser, *, threshold: bool = True) -> None:
    """Add the options that override the model's detector settings, with ``--threshold`` if `threshold`."""
    group = parser.add_argument_group("detection")
    group.add_argument("--keywords", metavar="A,B,...", help="active keywords; the others count as unknown")
    group.add_argument(
        "--wake-word", metavar="WORD", help="keyword that must be heard before the others count; '' for none"
    )
    parser.set_defaults(threshold=[], sensitivity=None)
    if threshold:
        group.add_argument(
            "--sensitivity",
            type=SENSITIVITY,
            metavar="X",
            help="set all thresholds by one number, from 0 (hears least) to 1 (hears most), with the misses and false "
            "accepts that the model file was measured to have",
        )
        group.add_argument(
            "--threshold",
            type=threshold_of,
            action="append",
            default=[],
            metavar="[KEYWORD=]X",
            help="posterior at which a keyword, or every one, is detected; repeatable",
        )
    for name in _SETTINGS:
        add_setting(group, name)

    def complete(words: Sequence[str]) -> None:
        name, metadata = _model_of(words)
        labels, detector = (metadata.labels, metadata.detector_config) if metadata else ((), DetectorConfig())
        group.description = f"By default as the model file says. The defaults below are those of {name}."
        if metadata and metadata.step:
            group.description += f" It answers every {_answer_ms(metadata):g} ms, so --step-ms takes multiples of that."
        words_own = (f"{word}={value:g}" for word, value in detector.thresholds.items())
        own = {
            **vars(detector),
            "sensitivity": OWN if metadata and metadata.operating_points else None,
            "threshold": " ".join([f"{detector.threshold:g}", *words_own]),
            "keywords": ", ".join(detector.keywords or filter(is_keyword, labels)),
        }
        for action in group._group_actions:
            setattr(action, "own", own[action.dest])  # noqa: B010 - an attribute of ours

    parser.before_help = complete


def _model_of(words: Sequence[str]) -> tuple[str, Metadata | None]:
    """Name and metadata of the model that a command line names, or of the default model."""
    for word in [*(word.rpartition("=")[2] for word in reversed(words)), DEFAULT_MODEL]:  # the last one counts
        if word in shipped_models() or word.endswith(".tflite"):
            with contextlib.suppress(KwsError):
                return printable(os.path.basename(word)), read_model(word)[2]
    raise AssertionError(DEFAULT_MODEL)


def _answer_ms(metadata: Metadata) -> float:
    """Time from one answer of a network with state to the next."""
    return metadata.step.frames * metadata.frontend_config.hop_ms if metadata.step else 0.0


def add_setting(parser: argparse._ActionsContainer, name: str, **options: Any) -> None:
    """Add an option for a numeric setting of the detector, with its range; `options` are further ones of argparse."""
    about = DetectorConfig.about(name)
    own = {"metavar": about["unit"].upper() or None, "help": about["help"]}
    parser.add_argument(f"--{name.replace('_', '-')}", type=about["values"], **{**own, **options})


def add_room(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the room profile."""
    group = parser.add_argument_group("calibrated thresholds").add_mutually_exclusive_group()
    group.add_argument(
        "--room", metavar="FILE", help="room profile that kws-edge calibrate wrote; default: the model's own"
    )
    group.add_argument("--no-room", action="store_true", help="the model file's thresholds, whatever was calibrated")


def _listed(one: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """Make an argparse ``type`` that reads different values of the type `one`, separated by commas."""
    return lambda text: list(dict.fromkeys(map(one, text.split(","))))


def threshold_of(text: str) -> tuple[str, float]:
    """Split ``KEYWORD=X`` into keyword and number. The keyword is empty if there is only a number."""
    keyword, equals, value = text.rpartition("=")
    if equals and not keyword:
        raise argparse.ArgumentTypeError(f"names no keyword: {shown(text)}")
    return keyword, DetectorConfig.range_of("threshold")(value)


def _runtimes(text: str) -> list[str]:
    found = list(dict.fromkeys(text.split(",")))
    known = ("all", "auto", *RUNTIMES)
    for name in found:
        if name not in known:
            raise argparse.ArgumentTypeError(f"unknown runtime {shown(name)}; known are {', '.join(known)}")
    return ["all"] if "all" in found else found


def labels(text: str | None) -> list[str] | None:
    """The labels that an option names."""
    if text is None:
        return None
    if "," in text:
        return [label.strip() for label in text.split(",")]
    if not os.path.exists(text) and text and not {".", os.sep} & set(text):
        return [text]  # one word: the label of a model with one output
    try:
        lines = [line.strip() for line in io.StringIO(read_text(text), newline=None)]
    except OSError as error:
        raise ConfigError(
            f"--labels {text or repr(text)}: neither labels with commas nor a file to read ({error.strerror})"
        ) from None
    except ValueError as error:
        raise ConfigError(f"--labels {text}: no list of labels ({error})") from None
    return [line for line in lines if line]


def frontend(text: str | None) -> FrontendConfig | None:
    """The front end that an option names."""
    if text is None or text in PRESETS:
        return None if text is None else preset(text)
    try:
        return FrontendConfig.from_dict(parse_json(read_text(text)))
    except OSError:
        raise ConfigError(f"--frontend {text}: neither a preset ({', '.join(PRESETS)}) nor a readable file") from None
    except ConfigError as error:
        raise ConfigError(f"--frontend {text}: {error}") from None
    except ValueError as error:
        raise ConfigError(f"--frontend {text}: not JSON ({error})") from None


def load_model(args: argparse.Namespace) -> Model:
    """The model that the options choose."""
    return Model(
        args.model,
        labels=labels(args.labels),
        frontend_config=frontend(args.frontend),
        runtime=args.runtime,
        threads=args.threads,
        kernels=args.kernels,
    )


def load_spotter(args: argparse.Namespace, model: Model) -> Spotter:
    """A spotter with the settings of the model, overridden by the room profile, overridden by the options.

    Standard error says what to expect of a sensitivity.
    """
    config = detector_config(args, model, room_profile(args, model))
    if args.sensitivity is not None:
        point = model.operating_point(args.sensitivity)
        print(f"kws-edge: {point}, as measured with {model.metadata.name or model.stem}", file=sys.stderr)
        if changed_names := model.detector_config.differences(config):
            print(
                f"kws-edge: measured with another {', '.join(changed_names)}; this does not hold now", file=sys.stderr
            )
    spotter = Spotter(
        model,
        detector_config=config,
        taught=taught_words(args, model),
        only_me=load_me(model) if args.only_me else None,
    )
    tell_of_others(spotter)
    return spotter


def room_profile(args: argparse.Namespace, model: Model) -> RoomProfile | None:
    """The room profile that the options choose, or the model's own if there is one. Standard error names it.

    If the model's own profile is unusable, the device goes on with a warning, because the user did not ask for it.
    """
    named = args.room is not None
    path = args.room if named else profile_path(model)
    # Each of these replaces all of a profile.
    overridden = args.sensitivity is not None or any(not keyword for keyword, _ in args.threshold)
    if args.no_room or (not named and (overridden or not is_there(path))):
        return None
    try:
        found = RoomProfile.load(path, model)
    except ConfigError as error:
        if named:
            raise
        print(f"kws-edge: warning: the model's own thresholds are used; {error}", file=sys.stderr)
        return None
    if overridden:
        return None
    print(f"kws-edge: thresholds of {path}: {found.summary} (--no-room for the model's own)", file=sys.stderr)
    changed = found.detector_config.differences(detector_config(args, model))
    if changed:
        print(
            f"kws-edge: {path} was calibrated with another {', '.join(changed)}; its budget does not hold now",
            file=sys.stderr,
        )
    return found


def detector_config(args: argparse.Namespace, model: Model, profile: RoomProfile | None = None) -> DetectorConfig:
    """The model's detector settings, with the thresholds of the room profile and then the options applied.

    Raises
    ------
    UsageError
        If the options make a detector that cannot work with `model`.
    """
    own = profile.applied(model.detector_config) if profile else model.detector_config
    changes: dict[str, Any] = {name: value for name in _SETTINGS if (value := getattr(args, name)) is not None}
    if args.step_ms is not None:
        check_step(args.step_ms, model)
    if args.keywords is not None:
        changes["keywords"] = tuple(word.strip() for word in args.keywords.split(","))
    if args.wake_word is not None:
        changes["wake_word"] = args.wake_word or None
    if args.armed_s is not None and not changes.get("wake_word", own.wake_word):
        raise UsageError(f"--armed-s {args.armed_s:g}: there is no wake word; name one with --wake-word")
    if args.threshold:
        changes |= thresholds(args.threshold, own.thresholds)
    if args.sensitivity is not None:
        _check_alone(args)
        point = model.operating_point(args.sensitivity)
        changes |= {"threshold": point.threshold, "thresholds": point.thresholds}
    return changed(model, own, changes)


def _check_alone(args: argparse.Namespace) -> None:
    """Refuse other options that set the thresholds, besides ``--sensitivity``."""
    word, value = args.threshold[0] if args.threshold else ("", None)
    room = getattr(args, "room", None)
    if value is not None or room is not None:
        other = f"--room {room}" if value is None else f"--threshold {word}{'=' * bool(word)}{value:g}"
        raise UsageError(f"--sensitivity {args.sensitivity:g} and {other} both set thresholds; leave one of them out")


def check_step(step_ms: float, model: Model) -> None:
    """Refuse a time between inferences that holds no whole number of a network's answers."""
    if model.step is None:
        return
    answer_ms = _answer_ms(model.metadata)
    if step_ms < answer_ms or step_ms % answer_ms:
        near = max(1, int(step_ms // answer_ms))
        raise UsageError(
            f"--step-ms {step_ms:g}: this model answers every {answer_ms:g} ms; give a multiple of that, such as "
            f"{near * answer_ms:g} or {(near + 1) * answer_ms:g}"
        )


def changed(model: Model, own: DetectorConfig, changes: Mapping[str, Any]) -> DetectorConfig:
    """`own` with the changes of the options applied.

    Raises
    ------
    UsageError
        If the changes make a detector that cannot work with `model`.
    """
    if not changes:
        return own
    try:
        config = dataclasses.replace(own, **changes)
        detector_of(model, config)
    except ConfigError as error:
        raise UsageError(str(error).removeprefix("DetectorConfig: ")) from None
    return config


def inputs(args: argparse.Namespace) -> list[str]:
    """The input files that the options name, if they exist."""
    named = [getattr(args, name, None) for name in ("model", "labels", "frontend", "room")]
    return [name for name in (*getattr(args, "files", ()), *named) if name and os.path.exists(name)]


def given(args: argparse.Namespace) -> list[str]:
    """The options of :func:`add_model` and :func:`add_detector` as arguments for another command."""
    names = (
        "model",
        "labels",
        "frontend",
        "runtime",
        "threads",
        "kernels",
        "keywords",
        "wake_word",
        "sensitivity",
        *_SETTINGS,
    )
    found = {name: getattr(args, name) for name in names}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in found.items() if value is not None]
    return options + [f"--threshold={word}{'=' * bool(word)}{value}" for word, value in args.threshold]


def thresholds(given: Sequence[tuple[str, float]], own: Mapping[str, float] = MappingProxyType({})) -> dict[str, Any]:
    """The changes that all ``--threshold`` make in the detector's settings; `own` are the keywords' current ones."""
    changes: dict[str, Any] = {"thresholds": dict(own)}
    for keyword, value in sorted(given, key=lambda pair: bool(pair[0])):  # a keyword's own one wins, in any order
        if keyword:
            changes["thresholds"][keyword] = value
        else:
            changes.update(threshold=value, thresholds={})
    return changes

"""The command ``kws-host``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from host_tools.errors import DatasetError
from host_tools.recipe import cli as recipe_cli
from host_tools.training.presets import PRESETS
from kws_edge.cli import options
from kws_edge.cli.parser import STATUSES, Parser, output_path
from kws_edge.config import PRESETS as FRONT_ENDS
from kws_edge.config import DetectorConfig
from kws_edge.errors import RuntimeUnavailableError, UsageError, extra
from kws_edge.ranges import number, whole
from kws_edge.text import counted, printable

_SEED = whole(0, 2**32 - 1)
_SHARE = number(0, 1)
_DB = number(-200, 200)
_STEPS = whole(1, 1_000_000)
_LEARNING_RATE = number(1e-9, 10)
_WORDS = whole(0, 10_000_000)

_DESCRIPTION = f"""\
Train, quantise and evaluate keyword models on a workstation. Install what that takes: {extra("host")}

  kws-host train DATA -o runs/first
  kws-host quantize runs/first -o first.tflite
  kws-host evaluate first.tflite --clips CLIPS
"""


def _download(args: argparse.Namespace) -> None:
    if bool(args.url) != bool(args.sha256):
        raise UsageError("--url and --sha256 go together: an archive is unpacked only if its checksum is known")
    from host_tools.data.download import download

    other = {name: value for name in ("url", "sha256") if (value := getattr(args, name))}
    download(args.folder, keep_archive=args.keep_archive, **other)


def _index(args: argparse.Namespace) -> None:
    from host_tools.data.dataset import BACKGROUND_FOLDER, Voices, count, index_clips
    from host_tools.data.features import read_clip
    from kws_edge.config import preset

    index = index_clips(args.data, split=args.split, seed=args.seed)
    clips, background, problems = index.clips, index.background, index.problems
    words = {word: count(c.split for c in clips if c.word == word) for word in sorted({c.word for c in clips})}
    voices = Voices.of(clips)
    if args.check:
        from tqdm import tqdm

        for path in tqdm([*(c.path for c in clips), *background], desc="reading", unit="clip", mininterval=0.5):
            try:
                read_clip(path, preset("logmel40"))
            except DatasetError as error:
                problems.append(str(error))
    total = count(c.split for c in clips)
    values = {
        "classes": len(words) + bool(background),
        "files": len(clips) + len(background),
        "clips": len(clips),
        "splits": total,
        "words": words,
        BACKGROUND_FOLDER: len(background),
        "speakers_outside_training": {"all": voices.others, "also_in_training": voices.shared},
        "clips_without_speaker_outside_training": voices.unnamed,
        "problems": problems,
        "left_out": [str(one) for one in index.left_out],
    }
    if args.json:
        print(json.dumps(values))
        return
    parts = ("training", "validation", "testing")
    print(f"{'word':<20}" + "".join(f"{part:>12}" for part in parts))
    for word, by_split in words.items():
        print(f"{printable(word):<20}" + "".join(f"{by_split.get(part, 0):>12}" for part in parts))
    print(f"{counted(len(clips), 'clip'):<20}" + "".join(f"{total.get(part, 0):>12}" for part in parts))
    if background:
        print(f"{BACKGROUND_FOLDER}: {counted(len(background), 'recording')}")
    print(f"{values['classes']} classes, {values['files']} files")
    if str(voices):
        print(f"warning: {voices} (split {args.split})")
    for line in problems:
        print(f"problem: {line}")
    for one in index.left_out:
        print(f"left out: {one}")
    _count_left_out(index.left_out)


def _count_left_out(left_out: list) -> None:
    """Say on standard error how much was not used: nothing is passed over without a word."""
    if left_out:
        files = sum(one.files for one in left_out)
        print(f"kws-host: {counted(files, 'file')} left out, the first: {left_out[0]}", file=sys.stderr)


def _train(args: argparse.Namespace) -> None:
    shares = args.silence_share + args.unknown_share
    if shares >= 1:
        raise UsageError(f"--silence-share and --unknown-share leave nothing for keywords: together {shares:g}")
    if args.snr_db[0] > args.snr_db[1]:
        raise UsageError("--snr takes the lower bound first, got {:g} and {:g}".format(*args.snr_db))
    if args.blend and not args.start:
        raise UsageError("--blend averages with weights to start from: give --start, too")
    from host_tools.training.loop import TrainConfig, load_run, train

    names = TrainConfig.__dataclass_fields__
    config = TrainConfig(**{name: value for name, value in vars(args).items() if name in names})
    if args.data is None and args.config is None:
        raise UsageError("no data to train on: name a folder of clips, or a run to repeat with --config RUN")
    run = train(config, _sources(args) if args.data else _same_sources(args, load_run(args.config)), args.output)
    print(f"next: kws-host quantize {run.folder} -o {run.folder.name}.tflite")


def _qat(args: argparse.Namespace) -> None:
    from host_tools.training.loop import load_run, train

    parent = load_run(args.run)
    config = dataclasses.replace(
        parent.config,
        **{name: getattr(args, name) for name in ("epochs", "steps", "learning_rate", "seed")},
        qat=str(args.run),
        keep="best",
        blend="",
        log_prior="",
        minutes=0.0,
        start="",
        teacher=str(args.run),
        weight_decay=0.0,
        words_first=0.0,
    )
    run = train(config, _sources(args) if args.data else _same_sources(args, parent), args.output)
    print(f"next: kws-host quantize {run.folder} -o {run.folder.name}.tflite")


def _compare(args: argparse.Namespace) -> None:
    from host_tools.evaluation.run_comparison import compare_runs, comparison_table
    from host_tools.training.loop import load_run

    compared = compare_runs([load_run(folder) for folder in args.runs])
    print(json.dumps(compared) if args.json else comparison_table(compared))


def _sources(args: argparse.Namespace):
    from host_tools.sampling.examples import Sources

    return Sources(
        args.data,
        args.features,
        args.speech,
        args.noise,
        args.synthetic,
        more_speech=tuple(args.more_speech),
        more_noise=tuple(args.more_noise),
        also_said=args.also_said,
        cache=_cache(args),
    )


def _same_sources(args: argparse.Namespace, run):
    """The data that a run was trained on."""
    from host_tools.training.loop import sources_of

    return dataclasses.replace(sources_of(run), cache=_cache(args))


def _cache(args: argparse.Namespace) -> Path:
    from host_tools.data.features import default_cache

    return args.cache or default_cache()


def _collect(args: argparse.Namespace) -> None:
    from host_tools.data.collect import collect

    minutes = collect(args.output, origin=args.origin, cache=args.cache, only=args.only, without=args.without)
    print(", ".join(f"{n:.1f} minutes of {kind}" for kind, n in minutes.items()), "in", args.output)


def _synthesize(args: argparse.Namespace) -> None:
    from host_tools.data.label_sets import label_set
    from host_tools.data.synthesize import synthesize_speech, synthesize_words
    from host_tools.locks import locked
    from kws_edge.labels import is_keyword

    if not args.minutes and not args.per_word:
        raise UsageError("--minutes 0 and --per-word 0 leave nothing to make")
    words = [label for label in label_set(args.labels) if is_keyword(label)]
    try:
        text = args.text.read_text() if args.text else None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"--text {args.text}: not a readable text ({error})") from None
    with locked(args.output):
        if args.minutes > 0:
            folder = args.output / "speech"
            heard = synthesize_speech(folder, minutes=args.minutes, avoid=words, text=text, seed=args.seed)
            print(f"{heard:.1f} minutes of speech without {', '.join(words)} in {folder}")
        if args.per_word > 0:
            n = synthesize_words(args.output / "words", words, per_word=args.per_word, seed=args.seed)
            print(f"{counted(n, 'clip')} of {counted(len(words), 'word')} in {args.output / 'words'}")


def _quantize(args: argparse.Namespace) -> None:
    from host_tools.convert.quantize import quantize_run
    from host_tools.training.loop import load_run

    detector = DetectorConfig(**_carried(args))
    run = load_run(args.run)
    name = args.name or Path(args.output).stem
    metadata = quantize_run(
        run,
        args.output,
        name=name,
        n=args.samples,
        seed=args.seed,
        detector=detector,
        description=args.description,
        licence=args.licence,
    )
    v = metadata.metrics["validation"]
    print(
        f"wrote {args.output}, {Path(args.output).stat().st_size:,} bytes; on {v['clips']} validation examples: "
        f"float {v['float_accuracy']:.2%}, INT8 {v['int8_accuracy']:.2%}, agreement {v['agreement']:.2%}"
    )


def _carried(args: argparse.Namespace) -> dict:
    """What the options of :func:`_add_carried` change in the detector's settings."""
    changes = {k: v for k in ("smoothing_ms", "refractory_ms", "speech_margin") if (v := getattr(args, k)) is not None}
    return changes | (options.thresholds(args.threshold) if args.threshold else {})


def _import(args: argparse.Namespace) -> None:
    from host_tools.convert.model_import import import_model

    imported = import_model(
        args.model,
        args.output,
        **_foreign(args),
        changes=_carried(args),
        name=args.name or "",
        description=args.description,
        licence=args.licence,
        clips=args.clips,
        n=args.samples,
        seed=args.seed,
    )
    front_end, labels = imported.metadata.front_end, imported.metadata.labels
    frames, mels = front_end.feature_shape
    print(f"wrote {args.output}, {imported.size:,} bytes: {frames} frames of {mels} mels to {', '.join(labels)}")
    for note in imported.notes:
        print(f"note: {note}")


def _foreign(args: argparse.Namespace) -> dict:
    """What the options say of a model file made elsewhere, as arguments of :class:`kws_edge.Model`."""
    return {"labels": options.labels(args.labels), "front_end": options.front_end(args.front_end)}


def _subject(args: argparse.Namespace):
    """The run or the model file to evaluate."""
    if Path(args.model).is_dir():
        from host_tools.training.loop import load_run

        if args.labels or args.front_end:
            raise DatasetError(f"{args.model}: is a run, which names its labels and its front end itself")
        return load_run(args.model)
    from kws_edge.model.model import Model

    return Model(args.model, kernels=args.kernels, **_foreign(args))


def _test_sets(args: argparse.Namespace, subject) -> list:
    if not args.clips and not args.features:
        raise UsageError("nothing to evaluate on: give --clips or --features, or both")
    from host_tools.evaluation.clips import clip_set, feature_set

    sets = []
    if args.clips:
        options = {"split": args.split, "at_least": args.at_least, "own_labels": args.own_labels}
        sets.append(clip_set(args.clips, subject.labels, subject.front_end, **options))
    if args.features:
        sets.append(feature_set(args.features, subject.labels, subject.front_end, split=args.split or "validation"))
    return sets


def _evaluate(args: argparse.Namespace) -> None:
    from host_tools.evaluation.clips import evaluate, write_errors
    from host_tools.evaluation.mistakes import check_unused
    from kws_edge.files import write_atomically

    if args.errors:
        check_unused(args.errors)
    subject = _subject(args)
    kind = "Keras" if Path(args.model).is_dir() else "INT8"
    results, heard = [], []
    for test in _test_sets(args, subject):
        result = evaluate(subject, test)
        heard.append((test, result))
        results.append({"data": test.name, "skipped": list(test.skipped), **result.to_dict()})
        if not args.json:
            print(f"{args.model} ({kind}) on {test.name}\n{result.table()}")
            for line in test.skipped:
                print(f"left out: {line}")
    if args.errors:
        wrote = write_errors(args.errors, heard, most=args.most_errors)
        if not args.json:
            print(wrote)
    values = {"model": Path(args.model).name, "kind": kind, "results": results}
    if args.json:
        print(json.dumps(values))
    if args.output:
        write_atomically(args.output, json.dumps(values, indent=1) + "\n")


def _report(args: argparse.Namespace) -> None:
    if bool(args.clips) == bool(args.features):
        raise UsageError("a report is of --clips or of --features: give one of them")
    from host_tools.evaluation.quantization_report import compare
    from host_tools.locks import locked
    from host_tools.training.loop import load_run

    run = load_run(args.run)
    (test,) = _test_sets(args, run)
    with locked(args.output):
        compare(run, test, args.output, qat=load_run(args.qat) if args.qat else None)


def _card(args: argparse.Namespace) -> None:
    from host_tools.convert.card import model_card
    from kws_edge.files import write_atomically
    from kws_edge.model.model import Model
    from kws_edge.text import parse_json, read_text

    model = Model(args.model, **_foreign(args))

    def tried(what: object, make: Callable):
        """What `make` gives; `what` names the file if that is of another form."""
        try:
            return make()
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, LookupError) else getattr(error, "strerror", None) or error
            raise DatasetError(f"{what}: no card can be made of it ({reason})") from None

    def read(path: Path | None, name: str):
        """The JSON at `path`, having made a card of it alone."""
        if path is None:
            return None
        values = tried(path, lambda: parse_json(read_text(path)))
        given = {"evaluations": [values]} if name == "evaluation" else {"evaluations": (), name: values}
        tried(path, lambda: model_card(model, **given))
        return values

    tried(args.model, lambda: model_card(model, ()))
    evaluations = [read(path, "evaluation") for path in args.evaluation]
    text = model_card(model, evaluations, arena=read(args.arena, "arena"), report=read(args.report, "report"))
    write_atomically(args.output, text)
    print(f"wrote {args.output}")


def _make_stream(args: argparse.Namespace) -> None:
    from host_tools.data.dataset import index_clips
    from host_tools.data.label_sets import LABEL_SETS, spelt
    from host_tools.data.recordings import recordings
    from host_tools.evaluation.stream_synthesis import StreamConfig, make_stream
    from kws_edge.labels import is_keyword

    words = [spelt(w.strip()) for w in args.words.split(",")] if args.words else LABEL_SETS["commands12"]
    index = index_clips(args.data)
    every = [clip for clip in index.clips if args.split in (clip.split, "all")]
    clips = [clip for clip in every if clip.word in words and is_keyword(clip.word)]
    if missing := sorted(set(words) - {clip.word for clip in clips}) if args.words else []:
        raise DatasetError(f"{args.data}: no {args.split} clips of {', '.join(missing)}")
    if not clips:
        raise DatasetError(f"{args.data}: no {args.split} clips of the ten commands; name others with --words")
    found = [recordings(folder, _half(args)) for folder in args.background]
    backgrounds = [path for one in found for path in one.paths]
    left_out = [*index.left_out, *(one for each in found for one in each.left_out)]
    config = StreamConfig(
        seconds=args.seconds,
        clips=args.clips,
        others=args.others,
        gap_s=tuple(args.gap),
        snr_db=args.snr and tuple(args.snr),
        gain_db=args.gain_db,
        rooms=args.rooms,
        seed=args.seed,
    )
    others = [clip for clip in every if clip.word not in words]
    summary = make_stream(args.output, config, clips, others=others, backgrounds=backgrounds)
    for line in index.problems:
        print(f"kws-host: {line}", file=sys.stderr)
    _count_left_out(left_out)
    if args.json:
        print(json.dumps(dataclasses.asdict(summary)))
        return
    said = ", ".join(f"{word} {n}" for word, n in summary.words.items())
    print(f"wrote {summary.file}, {summary.seconds:.1f} s, and {summary.labels}: {said or 'no words'}")
    if summary.clipped:
        print(f"warning: {counted(summary.clipped, 'sample')} cut at full scale; lower --gain-db")


def _streams(args: argparse.Namespace) -> list:
    from host_tools.data.recordings import find_audio
    from host_tools.evaluation.stream_inference import find_streams

    _count_left_out([one for path in args.streams if path.is_dir() for one in find_audio(path).left_out])
    return find_streams(args.streams, truth=args.truth, half=_half(args), also_said=args.also_said)


def _half(args: argparse.Namespace) -> str | None:
    return None if args.half == "all" else args.half


def _conditions(args: argparse.Namespace, streams: list) -> list:
    from host_tools.evaluation.stream_inference import Condition

    gains = dict.fromkeys(args.gains)  # each once
    ways = [{}]
    if args.rooms:
        ways.append({"room": True})
    if args.gated and any(stream.spoken for stream in streams):
        ways.append({"gated": True})
    return [Condition(gain, **way) for way in ways for gain in gains]


def _calibrate(args: argparse.Namespace) -> None:
    from host_tools.evaluation.budget import calibrate, write_calibrated
    from kws_edge.model.model import Model

    budget = 1.0 if args.budget is None and not args.threshold else args.budget
    say = (lambda line: None) if args.json else print
    streams, foreign = _streams(args), _foreign(args)
    model = Model(args.model, **foreign)
    own = model.detector
    given = {"threshold": own.threshold, **options.thresholds(args.threshold, own.thresholds)} if args.threshold else {}
    options.changed(model, own, given)  # before the streams are heard
    result = calibrate(
        args.model,
        streams,
        budget=budget,
        conditions=_conditions(args, streams),
        smoothing_ms=args.smoothing_ms,
        **given,
        speech_margin=args.speech_margin,
        **foreign,
        workers=args.workers,
        say=say,
    )
    if args.json:
        print(json.dumps(result.to_dict()))
    else:
        for name, trial in (("before", result.before), ("chosen", result.after)):
            v = trial.to_dict()
            low, high = v["interval_95"]
            accepts, words = counted(v["false_accepts"], "false accept"), counted(v["words"], "word")
            print(
                f"{name}: smoothing {v['smoothing_ms']:g} ms, threshold {v['threshold']:.2f}, hysteresis"
                f" {v['hysteresis']:g}, refractory {v['refractory_ms']:g} ms: {accepts} in"
                f" {v['hours']:.2f} hours ({low:.2f} to {high:.2f} per hour; to expect:"
                f" {v['expected_per_hour']:.2f}), {100 * v['false_reject_rate']:.2f} % of {words} missed"
            )
        print(f"to expect elsewhere: {result.promise}")
    if args.output:
        folders = Counter(path.parent.name for path in args.streams)
        names = [p.name if folders[p.parent.name] < 10 else f"{p.parent.name}/" for p in args.streams]
        write_calibrated(args.model, result, args.output, data=list(dict.fromkeys(names)), labels=foreign["labels"])
        if not args.json:
            print(f"wrote {args.output}")


def _stream_eval(args: argparse.Namespace) -> None:
    from host_tools.evaluation.mistakes import check_unused
    from host_tools.evaluation.stream_reports import evaluate_streams
    from kws_edge.files import check_writable
    from kws_edge.model.model import Model

    if args.errors:
        check_unused(args.errors)
        if args.output and args.errors.resolve() in (args.output.resolve(), *args.output.resolve().parents):
            raise UsageError(f"--errors {args.errors}: holds the folder of -o; name another one")
    if args.output:  # what cannot be written is said before the work
        try:
            args.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetError(f"{args.output}: no folder can be made there ({error.strerror})") from None
        check_writable(args.output / "report.json")
    streams, foreign = _streams(args), _foreign(args)
    report = evaluate_streams(
        args.model,
        streams,
        config=options.detector_config(args, Model(args.model, **foreign)),
        conditions=_conditions(args, streams),
        kernels=args.kernels,
        **foreign,
        workers=args.workers,
    )
    if not args.json:
        print(report.table())
    if args.output:
        report.write(args.output)
        if not args.json:
            print(f"wrote {args.output}/report.json, det.png, timeline.png and false_accepts/")
    if args.errors:
        wrote = report.write_errors(args.errors, most=args.most_errors)
        if not args.json:
            print(wrote)
    if args.json:
        print(json.dumps(report.to_dict()))


def _log_prior(text: str) -> str:
    """A ``type`` for ``LABEL=X``, separated by commas, which training reads."""
    for part in filter(None, text.split(",")):
        number(-100, 100)(part.rpartition("=")[2])
    return text


def make_parser() -> Parser:
    parser = Parser(
        prog="kws-host",
        description=_DESCRIPTION,
        epilog=f"{STATUSES}. kws-host COMMAND --help describes a command.",
    )
    commands = parser.add_commands()

    download = commands.add_parser(
        "download",
        help="fetch Speech Commands v0.02",
        description="Fetch Speech Commands v0.02 (2.3 GB), check it and unpack it. The same command goes on"
        " where an interrupted one stopped, and does nothing where everything is there.",
    )
    download.add_argument("folder", type=Path, metavar="DIR", help="folder to make; the words' folders come into it")
    download.add_argument("--url", help="another archive of that layout")
    download.add_argument("--sha256", metavar="HEX", help="its checksum")
    download.add_argument("--keep-archive", action="store_true", help="keep the archive beside the folder")
    download.set_defaults(work=_download)

    index = commands.add_parser("index", help="count the clips of a Speech Commands folder by word and split")
    index.add_argument("data", type=Path, metavar="DATA", help="folder laid out <word>/<speaker>_nohash_<n>.wav")
    index.add_argument(
        "--split", choices=("official", "random"), default="official", help="by speaker, or 70/15/15 at random"
    )
    index.add_argument("--seed", type=_SEED, default=1, help="seed of the random split")
    index.add_argument("--check", action="store_true", help="read every file and list those that cannot be used")
    index.add_argument("--json", action="store_true", help="one JSON object")
    index.set_defaults(work=_index)

    _add_train(commands)
    qat = commands.add_parser(
        "qat",
        help="fine-tune a run with fake quantisation",
        description="Fine-tune a run's best weights so that they lose nothing when rounded: batch norm folded, fake"
        " quantisation, the float network as teacher. Writes a run folder, which quantize, evaluate and report take.",
    )
    qat.add_argument("run", type=Path, metavar="RUN", help="folder of the float run")
    _add_sources(qat, data="?", about="; default: all data that the run was trained on")
    qat.add_argument("-o", "--output", type=output_path, required=True, metavar="QAT_RUN", help="folder of the new run")
    qat.add_argument("--epochs", type=whole(0, 10_000), default=2, help="epochs of fine-tuning")
    qat.add_argument("--steps", type=_STEPS, default=150, help="batches an epoch")
    qat.add_argument("--learning-rate", type=_LEARNING_RATE, default=2e-4, help="its peak")
    qat.add_argument("--seed", type=_SEED, default=1, help="seed of batches and augmentation")
    qat.set_defaults(work=_qat)

    compare = commands.add_parser(
        "compare",
        help="show in what runs differ, and how well each did",
        description="Show the options, data and versions in which runs differ, and the best epoch of each.",
    )
    compare.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run")
    compare.add_argument("--json", action="store_true", help="one JSON object")
    compare.set_defaults(work=_compare)

    synthesize = commands.add_parser(
        "synthesize",
        help="make synthetic speech: negatives, and words without recordings",
        description="Have the speech synthesisers that are installed (espeak-ng, flite, festival, RHVoice) speak:"
        " DIR/speech gets speech without the keywords, DIR/words clips of words, laid out as Speech Commands. The same"
        " command goes on where an interrupted one stopped.",
    )
    synthesize.add_argument("-o", "--output", type=output_path, required=True, metavar="DIR", help="folder to write to")
    _add_labels(synthesize)
    synthesize.add_argument(
        "--minutes", type=number(0, 1_000_000), default=120.0, help="speech without the keywords; 0: none"
    )
    synthesize.add_argument("--text", type=Path, metavar="FILE", help="what is read; default: sentences at random")
    synthesize.add_argument("--per-word", type=whole(0, 1_000_000), default=200, help="clips of each keyword; 0: none")
    synthesize.add_argument("--seed", type=_SEED, default=1, help="seed of sentences and voices")
    synthesize.set_defaults(work=_synthesize)

    collect = commands.add_parser(
        "collect",
        help="fetch real voices and sounds from Debian's packages or git repositories: negatives",
        description="Download free packages of Debian (games, teaching programs, telephone prompts; none is installed)"
        " or, with --from repositories, recordings out of public git repositories at fixed commits, and write what they"
        " hold of human speech without the ten commands to DIR/speech, of sounds and music to DIR/noise, as FLAC, and"
        " their licences to DIR/licences. Takes some minutes and 5 GB, or 2 GB; the same command goes on where an"
        " interrupted one stopped. For train --more-speech DIR/speech --more-noise DIR/noise; repositories are grouped"
        " below these, as in DIR/speech/words.",
    )
    collect.add_argument(
        "--from",
        dest="origin",
        choices=("debian", "repositories"),
        default="debian",
        help="Debian's packages or git repositories",
    )
    collect.add_argument("-o", "--output", type=output_path, required=True, metavar="DIR", help="folder to write to")
    collect.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where packages or clones are kept; default: DIR/packages or DIR/repositories",
    )
    collect.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these packages or repositories")
    collect.add_argument("--without", nargs="+", default=[], metavar="NAME", help="not these packages or repositories")
    collect.set_defaults(work=_collect)

    quantize = commands.add_parser("quantize", help="quantise a run to an INT8 model file")
    quantize.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    quantize.add_argument("-o", "--output", type=output_path, required=True, metavar="FILE", help=".tflite to write")
    quantize.add_argument("--name", metavar="NAME", help="name that the file carries; default: the file's")
    quantize.add_argument(
        "--description", metavar="TEXT", help="what the file says of itself; default: the network's kind and size"
    )
    quantize.add_argument(
        "--licence",
        metavar="TEXT",
        help="licence and attribution of the weights; default: what Speech Commands asks for, or that none is stated",
    )
    quantize.add_argument("--samples", type=whole(1, 1_000_000), default=200, help="calibration examples")
    quantize.add_argument("--seed", type=_SEED, default=0, help="choice of calibration examples")
    _add_carried(quantize)
    quantize.set_defaults(work=_quantize)

    evaluate = commands.add_parser("evaluate", help="accuracy of a model file, or of a run's float network, on clips")
    evaluate.add_argument("model", metavar="MODEL|RUN", help="shipped model, .tflite file, or folder of a run")
    options.add_foreign(evaluate)
    _add_test(evaluate)
    options.add_kernels(evaluate)
    evaluate.add_argument("--json", action="store_true", help="one JSON object")
    evaluate.add_argument("-o", "--output", type=output_path, metavar="JSON", help="also write it to this file")
    _add_errors(evaluate, "copy misclassified clips to this new folder, with a table of posteriors")
    evaluate.set_defaults(work=_evaluate)

    report = commands.add_parser(
        "report",
        help="compare FP32, float TFLite, PTQ and QAT on the same clips",
        description="Convert a run to every form, measure each on the same clips, and write report.md, report.json,"
        " confusion.png and the models to a folder.",
    )
    report.add_argument("run", type=Path, metavar="RUN", help="folder of the float run")
    report.add_argument("--qat", type=Path, metavar="QAT_RUN", help="folder of its quantisation-aware run")
    _add_test(report)
    report.add_argument("-o", "--output", type=output_path, required=True, metavar="DIR", help="folder to write to")
    report.set_defaults(work=_report)

    card = commands.add_parser("card", help="write a model's card", description="Write a model card in Markdown.")
    card.add_argument("model", metavar="MODEL", help="shipped model or .tflite file")
    options.add_foreign(card)
    card.add_argument("-o", "--output", type=output_path, required=True, metavar="MD", help="file to write")
    card.add_argument("--evaluation", type=Path, nargs="+", default=[], metavar="JSON", help="of kws-host evaluate -o")
    card.add_argument("--arena", type=Path, metavar="JSON", help="of kws-firmware arena --json")
    card.add_argument("--report", type=Path, metavar="JSON", help="report.json of kws-host report")
    card.set_defaults(work=_card)
    _add_import(commands)
    _add_make_stream(commands)
    _add_stream_eval(commands)
    _add_calibrate(commands)
    recipe_cli.add(commands)
    return parser


def _add_train(commands) -> None:
    train = commands.add_parser(
        "train",
        help="train a network",
        description="Train a network and write a run folder: best.keras (lowest validation loss), last.keras,"
        " log.csv, config.json. The same command goes on where an interrupted run stopped.",
    )
    _add_sources(train, data="?")
    train.add_argument(
        "--config", type=Path, metavar="RUN", help="options and data of this run, but for those that you give"
    )
    train.add_argument("-o", "--output", type=output_path, required=True, metavar="RUN", help="folder of the run")
    train.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default="",
        help="other defaults: own, for a few words of your own, in 15 minutes",
    )
    train.add_argument(
        "--split",
        choices=("official", "random"),
        default="official",
        help="by speaker, or 70/15/15 at random, which leaks speakers",
    )
    train.add_argument("--seed", type=_SEED, default=1, help="seed of weights, batches and augmentation")
    net = train.add_argument_group("network")
    net.add_argument(
        "--model",
        default="residual",
        metavar="NAME|MODULE:FUNCTION",
        help="network: residual, micro, cnn_reference, or your own function(input_shape, classes) of a module in the"
        " current folder",
    )
    net.add_argument("--width", type=number(0.01, 100), default=1.0, help="factor on its channels")
    net.add_argument("--front-end", choices=FRONT_ENDS, default="logmel40", help="front-end preset")
    _add_labels(net)
    pace = train.add_argument_group("length")
    pace.add_argument("--epochs", type=whole(0, 10_000), default=40, help="0: only take over the weights of --start")
    pace.add_argument(
        "--minutes",
        type=number(0, 1_000_000),
        default=0.0,
        metavar="N",
        help="train for this long, features included, in place of a number of epochs",
    )
    pace.add_argument("--steps", type=_STEPS, default=300, help="batches an epoch")
    pace.add_argument("--batch-size", type=whole(1, 16_384), default=160, help="examples a batch")
    pace.add_argument("--learning-rate", type=_LEARNING_RATE, default=2e-3, help="its peak")
    pace.add_argument(
        "--words-first",
        type=_SHARE,
        default=0.0,
        metavar="SHARE",
        help="share of the time in which, to begin with, all words with 50 recordings or more are told apart",
    )
    pace.add_argument("--keep", choices=("best", "last"), default="best", help="epoch whose weights are kept")
    batch = train.add_argument_group("what a batch holds")
    batch.add_argument("--silence-share", type=_SHARE, default=0.08, help="share of a batch that is noise")
    batch.add_argument("--unknown-share", type=_SHARE, default=0.25, help="share of a batch that is unknown")
    batch.add_argument("--speech-share", type=_SHARE, default=0.3, help="share of unknown that is continuous speech")
    batch.add_argument(
        "--hard-negatives", type=_SHARE, default=0.0, help="share of unknown that are pairs of words and cut keywords"
    )
    batch.add_argument(
        "--mined",
        type=_SHARE,
        default=0.0,
        help="share of noise and speech that is what the network hears keywords in",
    )
    batch.add_argument("--audio-copies", type=whole(0, 100), default=0, help="copies of each clip, varied as audio")
    batch.add_argument(
        "--variety",
        type=_SHARE,
        default=0.0,
        help="share of noise and speech that gets another speed, pitch and level over time than recorded",
    )
    batch.add_argument(
        "--hiss", type=_SHARE, default=0.0, help="share of noise that is the quietest part of recorded words, repeated"
    )
    varied = train.add_argument_group("augmentation")
    varied.add_argument("--augmentation", type=number(0, 10), default=1.0, help="strength of the augmentation; 0: none")
    varied.add_argument(
        "--gated",
        type=_SHARE,
        default=0.15,
        metavar="SHARE",
        help="share of examples that are digitally silent but for the word, before scaling by --augmentation",
    )
    varied.add_argument(
        "--reverberation", type=_SHARE, default=0.0, help="share of examples that get a room's response"
    )
    varied.add_argument("--noise-share", type=_SHARE, default=0.6, help="share of examples that get noise")
    varied.add_argument(
        "--snr",
        dest="snr_db",
        type=_DB,
        nargs=2,
        default=(0.0, 40.0),
        metavar=("LOW", "HIGH"),
        help="range of its signal-to-noise ratio in dB",
    )
    varied.add_argument("--babble", type=_SHARE, default=0.0, help="share of the noise behind examples that is speech")
    varied.add_argument(
        "--equalisation-db",
        type=number(0, 200),
        default=0.0,
        help="largest gain of a part of the bands, before scaling",
    )
    varied.add_argument(
        "--shift-ms", type=number(0, 10_000), default=100.0, help="largest shift, before scaling by --augmentation"
    )
    varied.add_argument(
        "--mixup", type=number(0, 100), default=0.0, help="parameter of mixup's Beta distribution; 0: none"
    )
    weights = train.add_argument_group("weights to start from, and teachers")
    weights.add_argument(
        "--start", default="", metavar="RUN|FILE", help="weights to start from: Keras's or an INT8 model's"
    )
    weights.add_argument("--blend", default="", metavar="RUN", help="average the weights to start from with this run's")
    weights.add_argument("--blend-share", type=_SHARE, default=0.5, help="share of --blend")
    weights.add_argument(
        "--log-prior",
        type=_log_prior,
        default="",
        metavar="LABEL=X[,...]",
        help="add X to the logit of LABEL to start with",
    )
    weights.add_argument("--teacher", default="", metavar="RUN[,RUN]", help="distil from this run, or these")
    weights.add_argument("--teacher-weight", type=_SHARE, default=0.5, help="share of --teacher in the targets")
    train.set_defaults(work=_train, set_defaults=train.set_defaults)


def _add_calibrate(commands) -> None:
    calibrate = commands.add_parser(
        "calibrate",
        help="choose the detector's settings for a budget of false accepts",
        description="Choose smoothing, threshold, hysteresis and refractory time on development streams, and write them"
        " into a model file. Streams without labels count false accepts, streams with labels count misses (make-stream"
        " writes such).",
    )
    calibrate.add_argument("model", metavar="MODEL", help="shipped model or .tflite file")
    options.add_foreign(calibrate)
    _add_streams(calibrate)
    choice = calibrate.add_mutually_exclusive_group()
    choice.add_argument(
        "--budget",
        type=options.BUDGET,
        metavar="N",
        help="false accepts per hour to expect on other streams: a place counts once under all conditions, and one more"
        " than counted is expected; default 1",
    )
    choice.add_argument(
        "--threshold",
        type=options.threshold_of,
        action="append",
        default=[],
        metavar="[KEYWORD=]X",
        help="measure and write this one, choose nothing; repeatable",
    )
    options.add_setting(calibrate, "smoothing_ms", metavar="MS", help="this smoothing time only")
    options.add_setting(
        calibrate,
        "speech_margin",
        metavar="X",
        help="what keywords need above the threshold after speech, instead of the model's own",
    )
    calibrate.add_argument("--json", action="store_true", help="one JSON object")
    calibrate.add_argument(
        "-o", "--output", type=output_path, metavar="FILE", help=".tflite to write; without it only shown"
    )
    calibrate.set_defaults(work=_calibrate)


def _add_streams(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("streams", nargs="+", type=Path, metavar="FILE|DIR", help="recordings, or folders of them")
    parser.add_argument(
        "--truth", nargs="+", type=Path, default=[], metavar="FILE", help="label files, one for each recording"
    )
    parser.add_argument(
        "--also-said",
        type=Path,
        metavar="CSV",
        help="keywords in unlabelled recordings, neither errors nor missed: recording,start_s,end_s,label",
    )
    _add_half(parser, "all", "of folders: half, by speaker")
    parser.add_argument("--gains", type=_DB, nargs="+", default=[0.0], metavar="DB", help="repeat at these gains")
    parser.add_argument("--rooms", action="store_true", help="repeat in synthetic rooms")
    parser.add_argument(
        "--gated",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="repeat with what is labelled behind a noise gate: silent but for the words",
    )
    parser.add_argument("--workers", type=whole(1, 1024), metavar="N", help="processes; default: one a core")


def _add_labels(parser: argparse.ArgumentParser) -> None:
    about = "keywords: a label set (commands12, words36), or words: hello,lamp"
    parser.add_argument("--labels", default="commands12", metavar="NAME|A,B,...", help=about)


def _add_half(parser: argparse.ArgumentParser, default: str, about: str) -> None:
    parser.add_argument("--half", default=default, choices=("training", "reporting", "all"), help=about)


def _add_make_stream(commands) -> None:
    make = commands.add_parser(
        "make-stream",
        help="mix clips into a long stream with exact truth",
        description="Mix clips of words into a long stream, and write where each word is said to a CSV beside it."
        " The same options give the same bytes.",
    )
    make.add_argument("data", type=Path, metavar="DATA", help="folder laid out <word>/<speaker>_nohash_<n>.wav")
    make.add_argument("-o", "--output", type=output_path, required=True, metavar="FILE", help=".flac or .wav to write")
    make.add_argument(
        "--split", default="validation", choices=("training", "validation", "testing", "all"), help="clips to draw from"
    )
    make.add_argument("--words", metavar="A,B,...", help="keywords; default: the ten commands")
    make.add_argument(
        "--clips", type=_WORDS, metavar="N", help="keywords in the stream; default: what fits, or each once"
    )
    make.add_argument("--others", type=_WORDS, default=0, metavar="N", help="other words among them")
    make.add_argument(
        "--seconds",
        type=number(0.1, 10_000_000),
        metavar="S",
        help="length of the stream; default: what the words need",
    )
    make.add_argument(
        "--gap",
        type=number(0, 3600),
        nargs=2,
        default=(1.0, 2.5),
        metavar=("LOW", "HIGH"),
        help="seconds between two clips",
    )
    make.add_argument(
        "--background", type=Path, nargs="+", default=[], metavar="DIR", help="recordings; without them faint noise"
    )
    _add_half(make, "training", "half of these recordings, by speaker")
    make.add_argument("--snr", type=_DB, nargs=2, metavar=("LOW", "HIGH"), help="dB of each word over the background")
    make.add_argument("--gain-db", type=_DB, default=0.0, metavar="DB", help="gain on the whole")
    make.add_argument(
        "--rooms", type=_SHARE, default=0.0, metavar="SHARE", help="share of words with a room's response"
    )
    make.add_argument("--seed", type=_SEED, default=0, help="seed of all choices")
    make.add_argument("--json", action="store_true", help="one JSON object")
    make.set_defaults(work=_make_stream)


def _add_stream_eval(commands) -> None:
    evaluate = commands.add_parser(
        "stream-eval",
        help="misses and false accepts of a model file on long streams",
        description="Run a model file over recordings as live listening would, and count false rejects, false accepts"
        " per hour, confusions, duplicates and the delay. The labels of X.flac are in X.csv (start_s,end_s,label) or"
        " X.txt (Audacity) beside it; without them, every detection in it is a false accept.",
    )
    evaluate.add_argument("model", metavar="MODEL", help="shipped model or .tflite file")
    options.add_foreign(evaluate)
    _add_streams(evaluate)
    options.add_detector(evaluate)
    options.add_kernels(evaluate)
    evaluate.add_argument("--json", action="store_true", help="one JSON object")
    evaluate.add_argument(
        "-o",
        "--output",
        type=output_path,
        metavar="DIR",
        help="write report.json, det.png, timeline.png, false_accepts/*.wav",
    )
    _add_errors(
        evaluate, "cut out missed words, confusions and false accepts with 1 s around each, with a table of posteriors"
    )
    evaluate.set_defaults(work=_stream_eval)


def _add_import(commands) -> None:
    imported = commands.add_parser(
        "import",
        help="make a model file of a network from elsewhere",
        description="Make a model file of a network that was not trained here: a TFLite file in INT8, or a float one"
        " or a Keras file, which are quantised on recordings. It is checked, and run once.",
    )
    imported.add_argument("model", type=Path, metavar="FILE", help=".tflite or .keras file")
    imported.add_argument("-o", "--output", type=output_path, required=True, metavar="FILE", help=".tflite to write")
    options.add_foreign(imported)
    imported.add_argument(
        "--clips", type=Path, metavar="DIR", help="recordings such as it will hear, to quantise a float network on"
    )
    imported.add_argument("--samples", type=whole(1, 1_000_000), default=200, help="how many of them")
    imported.add_argument("--seed", type=_SEED, default=0, help="their choice")
    imported.add_argument("--name", help="name that the file carries; default: the file's")
    imported.add_argument("--description", default="", metavar="TEXT", help="description that the file carries")
    imported.add_argument("--licence", default="", metavar="TEXT", help="licence of the weights that the file carries")
    _add_carried(imported)
    imported.set_defaults(work=_import)


def _add_carried(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threshold",
        type=options.threshold_of,
        action="append",
        default=[],
        metavar="[KEYWORD=]X",
        help=f"detection threshold that it carries; repeatable; default {DetectorConfig.threshold:g}",
    )
    for name, about in (
        ("smoothing_ms", "smoothing that the file carries"),
        ("refractory_ms", "refractory time that the file carries"),
        ("speech_margin", "what keywords need above the threshold after speech"),
    ):
        options.add_setting(parser, name, help=f"{about}; default {getattr(DetectorConfig, name):g}")


def _add_errors(parser: argparse.ArgumentParser, about: str) -> None:
    parser.add_argument("--errors", type=output_path, metavar="DIR", help=about)
    parser.add_argument("--most-errors", type=_WORDS, default=100, metavar="N", help="sounds of each kind, worst first")


def _add_test(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clips", type=Path, metavar="DIR", help="folder laid out <label>/*.wav")
    parser.add_argument("--features", type=Path, metavar="DIR", help="precomputed features.npy with manifest.tsv")
    parser.add_argument("--split", metavar="PART", help="only this part of the official split (features: validation)")
    parser.add_argument("--at-least", type=_WORDS, default=1, metavar="N", help="leave out words with fewer clips")
    parser.add_argument("--own-labels", action="store_true", help="leave out words that are no label of the model")


def _add_sources(parser: argparse.ArgumentParser, *, data: str | None = None, about: str = "") -> None:
    parser.add_argument(
        "data", type=Path, nargs=data, metavar="DATA", help=f"folder laid out <word>/<speaker>_nohash_<n>.wav{about}"
    )
    group = parser.add_argument_group("data")
    group.add_argument("--features", type=Path, metavar="DIR", help="precomputed features.npy with manifest.tsv")
    group.add_argument("--speech", type=Path, metavar="DIR", help="speech without the keywords; half of it is used")
    group.add_argument("--noise", type=Path, metavar="DIR", help="noise without speech; half of it is used")
    group.add_argument("--synthetic", type=Path, metavar="DIR", help="words and speech made by kws-host synthesize")
    group.add_argument(
        "--also-said",
        type=Path,
        metavar="CSV",
        help="where keywords are said in the speech (recording,start_s,end_s,label): not trained on",
    )
    for kind in ("speech", "noise"):
        group.add_argument(
            f"--more-{kind}", type=Path, nargs="+", default=[], metavar="DIR", help=f"{kind}; all of it trains"
        )
    group.add_argument("--cache", type=Path, metavar="DIR", help="where features are kept; default: the user's cache")


def _parsed(argv: list[str]) -> argparse.Namespace:
    """The command line; the options of ``--config RUN``, and over them those of ``--preset``, are the defaults."""
    parser = make_parser()
    args = parser.parse_args(argv)
    defaults: dict = {}
    if getattr(args, "config", None) is not None:
        from host_tools.training.loop import load_run

        defaults |= dataclasses.asdict(load_run(args.config).config)
    defaults |= PRESETS.get(getattr(args, "preset", ""), {})
    if not defaults:
        return args
    args.set_defaults(**defaults)
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Run the command; what goes wrong is an exception."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow's own choice follows the processor, and with it the weights that a seed gives; and it is announced.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # its advice on retracing is not for this command's user

    try:
        args = _parsed(argv)
        if args.work in (_quantize, _report, _import):  # the converter is TensorFlow's, whatever a run was trained with
            os.environ["KERAS_BACKEND"] = "tensorflow"
        args.work(args)
    except ImportError as error:
        raise _unavailable(error) from None
    except ValueError as error:
        if not str(error).startswith("Unable to import backend"):  # as Keras says it
            raise
        raise _unavailable(error) from None


def _unavailable(error: Exception) -> RuntimeUnavailableError:
    """What to do where Keras, or what it computes with, cannot be loaded."""
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend == "tensorflow" and isinstance(error, ImportError):
        return RuntimeUnavailableError(f"{error}; install the workstation tools: {extra('host')}")
    return RuntimeUnavailableError(
        f"Keras cannot be loaded ({error}); install its backend, or set KERAS_BACKEND to tensorflow, jax or torch"
    )

"""``kws-edge teach``: learn words of your own from a few recordings of each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from kws_edge.audio.file import AudioFile
from kws_edge.audio.level import level_db
from kws_edge.cli import options
from kws_edge.cli.guard import interrupted_by
from kws_edge.cli.listen import add_source, check_device, level_bar, open_source
from kws_edge.cli.me import check_files, load_me, utterance
from kws_edge.cli.say import say
from kws_edge.cli.taught import load_taught
from kws_edge.diagnostics.latency import wall_clock
from kws_edge.errors import AudioError, ConfigError, UsageError
from kws_edge.ranges import whole
from kws_edge.teach.listener import BUDGET
from kws_edge.teach.recorder import Recorder
from kws_edge.teach.takes import TakeError, find_word
from kws_edge.teach.word import PROMISED
from kws_edge.teach.words import LEAST_TAKES, MOST_TAKES, TaughtWords
from kws_edge.teach.wrong import windows
from kws_edge.text import counted, printable, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kws_edge.audio.source import Source
    from kws_edge.cli.parser import Commands
    from kws_edge.model.model import Model
    from kws_edge.teach.takes import Take

_T = TypeVar("_T")
_MOST_REFUSED = 10
_TAKES = 5


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "teach",
        help="learn your own words from a few recordings",
        description=f"Learn a word from {LEAST_TAKES} to {MOST_TAKES} recordings of it, from the microphone or from "
        "files. Nothing is trained, and nothing leaves the device. listen --taught and detect --taught then hear the "
        "word beside the model's own. Recordings that cannot teach the word are refused, with the reason.",
    )
    parser.add_argument("word", nargs="?", metavar="WORD", help="name of the word; with --test or --wrong, a recording")
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="recordings of the word, or - for standard input; default: listen"
    )
    add_source(parser)
    parser.add_argument(
        "--takes",
        type=whole(LEAST_TAKES, MOST_TAKES),
        default=_TAKES,
        metavar="N",
        help="recordings to make with the microphone; more make the word surer",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="show the taught words")
    what.add_argument("--remove", action="store_true", help="forget WORD")
    what.add_argument(
        "--test", action="store_true", help="show how much each thing that you say is like each taught word"
    )
    what.add_argument(
        "--wrong",
        action="store_true",
        help="learn from recordings in which taught words were heard, but not said, such as clips of the service",
    )
    parser.add_argument(
        "--me",
        action="store_true",
        help="make your voice known to --only-me, by ten utterances of commands, in place of a word; with --remove, "
        "forget it",
    )
    options.add_model(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.me:
        _me(args)
        return 0
    if args.list and args.word is not None:
        raise UsageError(f"--list takes no word, got {shown(args.word)}")
    if args.remove and (args.word is None or args.files):
        raise UsageError("--remove takes one word")
    if args.word is None and not (args.list or args.test):
        raise UsageError(
            "--wrong takes recordings" if args.wrong else "name the word to teach, or give --list or --test"
        )
    if args.wrong and "-" in (args.word, *args.files):
        raise UsageError("--wrong takes recordings, not standard input")
    if args.word == "-" and not args.test:
        raise UsageError("name the word before the - of standard input")
    model = options.load_model(args)
    words = load_taught(model)
    if args.list:
        _list(words)
    elif args.remove:
        words.remove(args.word)
        print(f"forgot {args.word}; {counted(len(words), 'word')} in {words.path}")
    elif args.test:
        return _test(args, words)
    elif args.wrong:
        _wrong(args, words)
    else:
        _teach(args, words)
    return 0


def _list(words: TaughtWords) -> None:
    if not words:
        print(f"no words are taught to {words.model.stem}; kws-edge teach WORD teaches one")
        return
    width = max(map(len, words))
    for word in words.values():
        wrong = f", {counted(len(word.wrong), 'window')} of what is wrong" if len(word.wrong) else ""
        moved = f", threshold {word.threshold:.2f}" if word.threshold != PROMISED else ""
        print(f"{word.name:<{width}}  {counted(word.takes, 'take')}, {word.date}{moved}{wrong}")


def _teach(args: argparse.Namespace, words: TaughtWords) -> None:
    words.check_name(args.word)  # before the user speaks
    if args.files and args.files != ["-"]:
        check_device(args, "a recording")
        if "-" in args.files:
            raise UsageError("teach takes recordings or - for standard input, not both")
        embeddings = [words.embeddings(_read(name, words.model, partial(_word, words))) for name in args.files]
    else:
        embeddings = _from_source(args, words)
    word = words.learn(args.word, embeddings, date=wall_clock())
    print(f"taught {word.name} from {counted(word.takes, 'take')}; wrote {words.path}")
    if word.weakest < (least := words.encoder.threshold(BUDGET)):
        print(
            f"kws-edge: warning: one take is only {word.weakest:.1f} like the others, and {least:.1f} is what counts; "
            "the word may be missed. More takes help, or a longer word",
            file=sys.stderr,
        )
    print("hear it with: kws-edge listen --taught")


def _read(name: str, model: Model, understood: Callable[[NDArray[np.int16]], _T]) -> _T:
    """What `understood` makes of a recording; an error names the recording."""
    with AudioFile(name, sample_rate=model.frontend_config.sample_rate) as audio:
        try:
            return understood(audio.read_all())
        except TakeError as error:
            raise TakeError(f"{printable(name)}: {error}") from None


def _word(words: TaughtWords, samples: NDArray[np.int16]) -> Take:
    c = words.model.frontend_config
    return find_word(samples, c.sample_rate, c.clip_ms / 1000)


def _from_source(args: argparse.Namespace, words: TaughtWords) -> list[NDArray[np.float32]]:
    """Embeddings of the takes that the microphone or standard input gives."""
    takes: list[NDArray[np.float32]] = []

    def understood(recording: NDArray[np.int16]) -> NDArray[np.float32]:
        found = words.embeddings(_word(words, recording))
        words.check_match(found, takes)
        return found

    with _opened(args, words.model) as source:
        say(f"listening to {source.name}; say {shown(args.word)} {args.takes} times, with a pause after each")
        recordings = _recordings(source, lambda: f"take {len(takes) + 1} of {args.takes}")
        _gather(takes, recordings, understood, what="take", most=args.takes, source=source)
    return takes


def _gather(
    found: list[NDArray[np.float32]],
    recordings: Iterator[NDArray[np.int16]],
    understood: Callable[[NDArray[np.int16]], NDArray[np.float32]],
    *,
    what: str,
    most: int,
    source: Source,
) -> None:
    """Add to `found` what `understood` makes of recordings, until there are `most`. Standard error tells of each."""
    refused = 0
    for recording in recordings:
        try:
            one = understood(recording)
        except TakeError as error:
            refused += 1
            say(f"refused: {error}")
            if refused >= _MOST_REFUSED:
                raise AudioError(f"{refused} {what}s were refused, the last: {error}") from None
            continue
        found.append(one)
        say(f"{what} {len(found)} of {most} is good")
        if len(found) == most:
            return
    raise AudioError(f"{source.name}: ended after {counted(len(found), f'good {what}')} of {most}")


def _me(args: argparse.Namespace) -> None:
    """Make the user's voice known, or forget it."""
    from kws_edge.voice.me import UTTERANCES  # teaching a word does not need it

    files = check_files([*filter(None, [args.word]), *args.files])
    if args.list or args.test or args.wrong or (args.remove and args.word):
        raise UsageError("--me takes recordings, or --remove alone")
    me = load_me(options.load_model(args))
    if args.remove:
        me.forget()
        print(f"forgot your voice; removed {me.path}")
        return
    if files:
        check_device(args, "a recording")
        found = [_read(name, me.model, partial(utterance, me)) for name in files]
    else:
        found = []

        def understood(recording: NDArray[np.int16]) -> NDArray[np.float32]:
            one = utterance(me, recording)
            me.check_match(one, found)
            return one

        with _opened(args, me.model) as source:
            say(f"listening to {source.name}; say ten commands or words, with a pause after each")
            recordings = _recordings(source, lambda: "say a command")
            _gather(found, recordings, understood, what="utterance", most=UTTERANCES, source=source)
    passed = me.learn(found, date=wall_clock())
    print(f"your voice is known; wrote {me.path}")
    print(f"of these utterances, --only-me would let {100 * passed:.0f} % pass; it is convenience, not security")


def _opened(args: argparse.Namespace, model: Model) -> Source:
    interrupted_by("SIGTERM", "SIGHUP")
    piped = "-" in (args.files or [args.word])
    if piped:
        check_device(args, "standard input")
    return open_source(args, model.frontend_config.sample_rate, piped=piped)


def _recordings(source: Source, what: Callable[[], str]) -> Iterator[NDArray[np.int16]]:
    """Yield what was said, piece by piece. A terminal shows the level, and what is awaited."""
    recorder, terminal = Recorder(source.sample_rate), sys.stderr.isatty()
    for block in source:
        if terminal:
            sys.stderr.write(f"\r\x1b[K{level_bar(level_db(block))}  {what()}")
            sys.stderr.flush()
        found = recorder.hear(block)
        if found is not None:
            if terminal:
                sys.stderr.write("\r\x1b[K")
            yield found


def _wrong(args: argparse.Namespace, words: TaughtWords) -> None:
    """Learn from each recording, one after the other."""
    if not words:
        raise UsageError("--wrong: no words are taught yet")
    check_device(args, "a recording")
    for path in (args.word, *args.files):
        with AudioFile(path, sample_rate=words.model.frontend_config.sample_rate) as audio:
            samples = audio.read_all()
        try:
            found = words.was_wrong(windows(words.encoder, samples))
        except ConfigError as error:
            raise ConfigError(f"{printable(path)}: {error}") from None
        told = [f"{name} was heard with {before:.2f}, now {now:.2f}" for name, (before, now) in found.items()]
        print(f"{printable(path)}: {'; '.join(told) or 'no taught word is heard'}", flush=True)


def _test(args: argparse.Namespace, words: TaughtWords) -> int:
    if not words:
        raise UsageError("--test: no words are taught yet")
    files = [*filter(None, [args.word]), *args.files]
    least, status = words.encoder.threshold(BUDGET), 0
    if files and files != ["-"]:
        check_device(args, "a recording")
        for name in files:
            try:
                print(f"{printable(name)}: {_scores(words, _read(name, words.model, partial(_word, words)), least)}")
            except AudioError as error:
                print(f"kws-edge: {error}", file=sys.stderr)
                status = 1
        return status
    with _opened(args, words.model) as source:
        say(f"listening to {source.name}; say any word; {least:.1f} counts as heard; Ctrl-C ends")
        try:
            for recording in _recordings(source, lambda: f"say {', '.join(words)}"):
                try:
                    print(_scores(words, _word(words, recording), least), flush=True)
                except TakeError as error:
                    say(str(error))
        except KeyboardInterrupt:
            pass
    return 0


def _scores(words: TaughtWords, take: Take, least: float) -> str:
    """The scores of a take, the best first."""
    found = sorted(words.best(words.embeddings(take)).items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {score:.1f}{' heard' * (score >= least)}" for name, score in found)

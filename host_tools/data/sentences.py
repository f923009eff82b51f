"""Random English sentences without given words, as text for synthetic speech."""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np

from host_tools.errors import DatasetError

__all__ = ["HOMOPHONES", "from_text", "sentence", "spoken_words"]

HOMOPHONES: dict[str, tuple[str, ...]] = {
    "no": ("know", "noh"),
    "right": ("write", "wright", "rite"),
    "one": ("won",),
    "two": ("to", "too"),
    "four": ("for", "fore"),
    "eight": ("ate",),
    "bed": ("bead",),
    "down": ("downs",),
    "go": ("goh",),
    "off": ("of",),
    "on": ("awn",),
    "bird": ("burred",),
    "wow": ("wau",),
}
"""Words that sound like, or nearly like, a word to avoid. They are avoided with it."""

_NOUNS = """
    time year people way day man thing woman life child world school state family student group country problem hand
    part place case week company system program question government number night point home water room mother area
    money story fact month lot study book job word business issue side kind head house service friend father power
    hour game line end member law car city community name president team minute idea kid body information back
    parent face other level office door health person art war history party result change morning reason research
    girl guy moment air teacher force education foot boy age policy music market sense nation plan college interest
    death course someone experience effect garden kitchen window table dinner weather winter summer river mountain
    island ocean forest village bridge station train engine paper letter picture colour number machine doctor
    hospital medicine captain soldier horse cattle sheep chicken apple orange bread butter cheese coffee sugar
    pepper potato tomato carrot onion rice salt soup glass bottle basket
"""
_VERBS = """
    make take give find tell ask work seem feel try leave call keep let begin help talk turn start show hear play
    run move like live believe hold bring happen write provide sit stand lose pay meet include continue set learn
    change lead understand watch follow create speak read allow add spend grow open walk win offer remember love
    consider appear buy wait serve die send expect build stay fall cut reach kill remain suggest raise pass sell
    require report decide pull carry break draw choose cause drive wonder answer arrive borrow climb cover dance
    enjoy finish forget gather guess
"""
_ADJECTIVES = """
    good new first last long great little own other old big high different small large next early young important
    few public bad same able human local late hard major better economic strong possible whole free military true
    federal international full special easy clear recent certain personal open red difficult available likely short
    single medical current wrong private past foreign fine common poor natural significant similar hot dead central
    happy serious ready simple left-handed physical general environmental financial blue democratic dark various
    entire close legal religious cold final main green nice huge popular traditional cultural yellow brown gentle
    bright quiet narrow golden silver
"""
_ADVERBS = """
    also very often however almost always never sometimes together likely simply generally instead actually already
    again rather soon usually perhaps probably finally quickly slowly carefully suddenly nearly yesterday today
    tomorrow
"""
_PREPOSITIONS = "in with at by from about into over after under between without before around among behind"
_STARTS = """
    the a this that my your our their his her some every each another
"""
_JOINERS = "and but because although while until when where which unless"

# Words that sound similar to words of Speech Commands, but are none of them.
_NEAR = """
    yet yesterday guess chess less lesson yellow yard yell years jest mess dress address nose note notice nobody
    nowhere notion north known snow slow low new now knock nod open cup upper upon apple hop puppy supper oppose
    stuff enough town dawn done doubt brown crown ground downtown dull dance noun lift laughed leapt loft lend lent
    lefthanded lest theft raft ride rice light night bright bite height alright rights tight white write ripe road
    under onto honest fond gone pond john dawn ongoing swan owner office often soft cough offer awful loft step
    stock top shop stomp star spot stuff stoop stomach start stuck goat gold goal ghost grow ago girl golf gossip
    cargo bingo tango shelter shield marble marvel martin mountain sheet shiver cheetah bread head bedroom birthday
    burden cattle cap dark dock hate weight fight fire flying full following fallow forth fort happen habit mouse
    learned line mine nice sever heaven kicks sick tree-like through free threw treasure true tooth wand once
    visible vision while well wild zeal hero zebra
"""


def spoken_words(text: str) -> list[str]:
    """Words of a text, lower case."""
    return re.findall(r"[a-z']+", text.lower())


def _avoided(avoid: Collection[str]) -> set[str]:
    words = {word.lower() for word in avoid}
    return words.union(*(HOMOPHONES.get(word, ()) for word in words))


def sentence(rng: np.random.Generator, avoid: Collection[str]) -> str:
    """A sentence of everyday words, and of some that sound like commands, without the words to avoid.

    The sentence makes little sense, but has the rhythm of speech. Words that sound like those to avoid are avoided,
    too.
    """
    without = _avoided(avoid)

    def pick(words: str) -> str:
        allowed = [w for w in words.split() if not without & set(spoken_words(w))]
        return allowed[rng.integers(len(allowed))]

    def thing() -> str:
        near = rng.random() < 0.35
        words = [pick(_STARTS), *([pick(_ADJECTIVES)] if rng.random() < 0.5 else []), pick(_NEAR if near else _NOUNS)]
        return " ".join(words)

    def clause() -> str:
        words = [thing(), *([pick(_ADVERBS)] if rng.random() < 0.3 else []), pick(_VERBS), thing()]
        if rng.random() < 0.5:
            words += [pick(_PREPOSITIONS), thing()]
        return " ".join(words)

    if rng.random() < 0.2:  # a list of words, as if somebody read it out
        return ", ".join(pick(_NEAR) for _ in range(rng.integers(4, 9))) + "."
    text = clause()
    if rng.random() < 0.4:
        text += f" {pick(_JOINERS)} {clause()}"
    return text[0].upper() + text[1:] + "."


def from_text(text: str, avoid: Collection[str]) -> list[str]:
    """Sentences of a text without the words to avoid and without words that sound like them.

    Raises
    ------
    DatasetError
        If no sentence is left.
    """
    without = _avoided(avoid)
    found = [" ".join(s.split()) for s in re.split(r"(?<=[.!?])\s+", text)]
    kept = [s for s in found if 2 < len(spoken_words(s)) < 60 and not without & set(spoken_words(s))]
    if not kept:
        raise DatasetError(f"none of the text's {len(found)} sentences is without {', '.join(sorted(avoid))}")
    return kept

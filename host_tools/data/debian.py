"""Packages of Debian that hold real sounds and real voices: what to take of each, and what holds a keyword."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COMMANDS", "PACKAGES", "SOUND_ALIKE", "Package"]

COMMANDS = frozenset(("yes", "no", "up", "down", "left", "right", "stop", "go", "on", "off"))
SOUND_ALIKE = {
    "cs": COMMANDS | {"nó", "of", "né"},
    "nl": COMMANDS | {"of", "nou", "ja", "raait"},
}
"""Words in the subtitles of fillets-ng that are or sound like a keyword."""


@dataclass(frozen=True)
class Package:
    """What to take of a Debian package.

    Attributes
    ----------
    name : str
        Of the package, in Debian's section main.
    kind : str
        ``noise`` or ``speech``.
    licence : str
        In short; the whole text is written beside the sounds.
    take, leave : tuple of str
        Patterns of paths below the package's root, in lower case; `leave` wins.
    speaker : str
        Regular expression on the path whose group 1 tells speakers apart; one speaker if empty.
    subtitles : str
        Language of the subtitles in fillets-ng-data that tell what is said.
    minutes : float
        At most this much of the package, taken evenly over its files.
    file_s : float
        At most this much of a file.
    """

    name: str
    kind: str
    licence: str
    take: tuple[str, ...] = ("*",)
    leave: tuple[str, ...] = ()
    speaker: str = ""
    subtitles: str = ""
    minutes: float = 60.0
    file_s: float = 60.0

    joins = False
    keywords = COMMANDS
    licence_files = r"^usr/share/doc/[^/]+/copyright$"

    @property
    def folder(self) -> str:
        """Where its sounds are written, below the folder of the kind."""
        return self.name


def _stems(text: str, *before: str) -> tuple[str, ...]:
    return tuple(f"*/{b}{stem}.*" for stem in text.split() for b in before or ("",))


# Which of the English prompts hold a keyword, or its homophone ("know"), according to Asterisk's core-sounds-en.txt.
_ENGLISH_PROMPTS = (
    "*/silence/*",
    *_stems(
        "agent-alreadyon agent-loggedoff conf-hasleft conf-leaderhasleft conf-noempty demo-congrats demo-echotest "
        "demo-moreinfo demo-nogo demo-nomatch dir-nomatch dir-nomore ascii123 ascii125 ascii40 ascii41 ascii91 ascii93 "
        "pbx-invalidpark queue-periodic-announce vm-intro vm-isonphone vm-nomore vm-no vm-nonumber vm-nobodyavail "
        "basic-pbx-ivr-main feature-not-avail-line confbridge-has-left confbridge-leave-* confbridge-binaural-* "
        "confbridge-lock-no-join no-recording unidentified-no-callback call-fwd-* n* tt-monkeys beep beeperr *-2tone"
    ),
)
# Which prompts are likely to hold a negation, or an ordinal that is one: Spanish and Italian "no", Russian "но".
_NEGATIONS = (
    "*/silence/*",
    *_stems(
        "*no *no-* *not-* *-no* *invalid* *incorrect* *cannot* *unavail* *unable* h-9 *nonextended *noempty *notavail* "
        "*mismatch *tooshort *-sorry sorry* im-sorry *full *unident* *nogo *nomatch *nomore *nobox *nobody* *nonumber "
        "*noservice* *weasels *allbusy *callee-options *isunavail *isonphone *hasleft beep beeperr *-2tone tt-monkeys "
        "*conditional *disturb *wrong *parkingfailed *privacy* *incorrect* demo-* dictate*"
    ),
)
_PROMPTS = "CC-BY-SA 3.0 (Digium)"
_FILLETS = "GPL-2+ (Fillets NG)"

PACKAGES = (
    # Speech: people reading or acting.
    Package("asterisk-core-sounds-en-g722", "speech", _PROMPTS, leave=_ENGLISH_PROMPTS),
    Package("asterisk-core-sounds-es-g722", "speech", _PROMPTS, leave=_NEGATIONS),
    Package("asterisk-core-sounds-fr-g722", "speech", _PROMPTS, leave=_NEGATIONS),
    Package("asterisk-core-sounds-it-g722", "speech", _PROMPTS, leave=_NEGATIONS),
    Package("asterisk-core-sounds-ru-g722", "speech", _PROMPTS, leave=_NEGATIONS),
    Package("fillets-ng-data-cs", "speech", _FILLETS, speaker=r"/[^/-]+-([^/-]+)-[^/]*$", subtitles="cs", minutes=150),
    Package("fillets-ng-data-nl", "speech", _FILLETS, speaker=r"/[^/-]+-([^/-]+)-[^/]*$", subtitles="nl", minutes=150),
    Package(
        "klettres-data",
        "speech",
        "GPL-2+ (KDE)",
        leave=("*/cs/syllab/ad-8.*", *_stems("no go on up off non nno noo gol nau noh")),
        speaker=r"klettres/([^/]+)/",
    ),
    Package(
        "ktuberling-data",
        "speech",
        "GPL-2+ (KDE)",
        take=("*/sounds/??/*", "*/sounds/??[@]*/*"),
        speaker=r"sounds/([^/]+)/",
    ),
    Package(
        "unknown-horizons",
        "speech",
        "GPL-2+, CC-BY-SA 3.0",
        take=("*/voice/de/*", "*/voice/fr/*"),
        speaker=r"voice/([^/]+)/",
    ),
    Package(
        "hedgewars-data",
        "speech",
        "GPL-2",
        take=("*/voices/*",),
        leave=(
            "*/voices/robot*",
            *_stems("*no* *yes* *down* *stop* *left* *right* *comeon* *ooff* *on *off *go* *up*"),
        ),
        speaker=r"[vV]oices/([^/]+)/",
    ),
    # Noise.
    Package(
        "tuxpaint-stamps-default",
        "noise",
        "GPL-2+ (Tux Paint)",
        leave=("*_desc*", "*/symbols/*", "*_??.*", "*_??_??.*", "*/english/*"),
    ),
    Package("hedgewars-data", "noise", "GPL-2", take=("*/sounds/*",), leave=("*/voices/*",)),
    Package("asterisk-core-sounds-en-g722", "noise", _PROMPTS, take=_stems("tt-monkeys beep beeperr *-2tone")),
    Package("asterisk-moh-opsound-g722", "noise", "CC-BY-SA 3.0 (Opsound)", minutes=8),
    Package("bucklespring-data", "noise", "GPL-2+"),
    Package("colobot-common-sounds", "noise", "GPL-3+", take=("*/sounds/*",)),
    Package("deepin-sound-theme", "noise", "GPL-3"),
    Package(
        "fillets-ng-data", "noise", _FILLETS, take=("*/sound/*", "*/music/*"), leave=("*/sound/*/??/*",), file_s=20
    ),
    Package("alienblaster-data", "noise", "GPL-2", leave=_stems("playon")),
    Package("enigma-data", "noise", "GPL-2+", take=("*/soundsets/*",)),
    Package("freedink-data", "noise", "zlib and CC-BY-SA 3.0", leave=_stems("*no*")),
    Package("freedroid-data", "noise", "GPL-2+"),
    Package("frozen-bubble-data", "noise", "GPL-2", leave=_stems("noh"), file_s=60),
    Package("gcompris-qt-data", "noise", "AGPL-3+ and CC-BY-SA", leave=("*voices*",), minutes=30),
    Package("minetest-data", "noise", "LGPL-2.1+ and CC-BY-SA 3.0"),
    Package("linphone-common", "noise", "GPL-3+", leave=("*hello*",)),
    Package("pidgin-data", "noise", "GPL-2+"),
    Package("pysiogame", "noise", "GPL-3+"),
    Package("scratch", "noise", "GPL-2 and CC-BY-SA", leave=("*/vocals/*",)),
    Package("searchandrescue-data", "noise", "GPL-2+", take=("*/sounds/*",)),
    Package("sonic-pi-samples", "noise", "CC0 and CC-BY-SA 4.0", leave=("*/arovane_beat*", "*/loop_*")),
    Package("tuxmath-data", "noise", "GPL-3+", leave=_stems("shieldsdown")),
    Package("unknown-horizons", "noise", "GPL-2+, CC-BY-SA 3.0", take=("*/sounds/*",)),
    Package("supertux-data", "noise", "GPL-2+ and CC-BY-SA", take=("*/sounds/*",)),
    Package("wesnoth-1.16-data", "noise", "GPL-2+ and CC-BY-SA 4.0", take=("*/sounds/*",)),
    Package("hydrogen-drumkits", "noise", "GPL-2+ and CC-BY-SA 3.0", minutes=8),
    Package("openarena-data", "noise", "GPL-2", leave=("*/feedback/*", "*/announcer/*", "*/voices/*", "*/vo/*")),
    Package("ufoai-sound", "noise", "GPL-2+ and CC-BY-SA 3.0", leave=("*/geoscape/*", "*/seq/*")),
    Package(
        "megaglest-data", "noise", "CC-BY-SA 3.0", leave=("*_ack*", "*_select*", "*/music/*", "*start*"), minutes=30
    ),
    Package("ardentryst", "noise", "GPL-3+", take=("*/sounds/*",), leave=("*/nyx/*", "*/pyr/*")),
    Package("endless-sky-data", "noise", "GPL-3+ and CC-BY-SA", take=("*/sounds/*",)),
    Package("teeworlds-data", "noise", "CC-BY-SA 3.0", leave=("*/vo_*", "*music*")),
    Package("tuxtype-data", "noise", "GPL-2+", take=("*/sounds/*",), leave=("*excuseme*",)),
    Package("extremetuxracer-data", "noise", "GPL-2+", take=("*/sounds/*",)),
    Package("funnyboat", "noise", "GPL-2+", leave=("*trip*",)),
    Package("monsterz-data", "noise", "WTFPL", leave=("*duh*",)),
    Package("gnome-audio", "noise", "CC-BY 3.0 and CC-BY-SA 2.0"),
    Package("lincity-ng-data", "noise", "GPL-2+ and CC-BY-SA", take=("*/sounds/*",)),
    Package("openttd-opensfx", "noise", "CC-BY-SA 3.0, GPL-2+ or CDDL"),
    Package("pingus-data", "noise", "GPL-3+", leave=_stems("letsgo ohno yipee goodidea")),
    Package("sound-icons", "noise", "GPL-2+"),
    Package(
        "sound-theme-freedesktop",
        "noise",
        "CC-BY-SA 3.0 and GPL-2+",
        leave=_stems("*channel* audio-test* *left *right *center *mono"),
    ),
    Package("tuxpaint-data", "noise", "GPL-2+", leave=_stems("areyousure youcannot tuxok italic_on italic_off")),
    # Last, as it takes longest: some 6000 files.
    Package(
        "tuxpaint-stamps-default",
        "speech",
        "GPL-2+ (Tux Paint)",
        take=("*_desc_*",),
        leave=("*_desc_en*", "*stop*", "*arrow*", "*left*", "*right*"),
        speaker=r"_desc_([^.]+)\.",
    ),
)

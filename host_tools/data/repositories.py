"""Public git repositories that hold real sounds and voices, as they were at one commit: what to take of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from host_tools.data.debian import COMMANDS

__all__ = ["REPOSITORIES", "Repository"]


@dataclass(frozen=True)
class Repository:
    """What to take of a git repository.

    Attributes
    ----------
    name : str
        ``<owner>/<name>`` on GitHub.
    commit : str
        40 hexadecimal digits.
    licence : str
        Of the sounds, in short, as far as the repository states it; its own words are written beside the sounds.
    kind : str
        ``noise`` or ``speech``.
    group : str
        Folder of what is alike: of speech ``long``, ``voices``, ``wake``, ``real`` or ``words``, of noise ``home`` or
        ``other``.
    take, leave : tuple of str
        Patterns of paths, in lower case, ``/`` being the repository's root; `leave` wins.
    speaker : str
        Regular expression on the path whose group 1 tells speakers apart; one speaker if empty.
    minutes : float
        At most this much of the repository, taken evenly over its files.
    file_s : float
        At most this much of a file.
    """

    name: str
    commit: str
    licence: str
    kind: str
    group: str
    take: tuple[str, ...] = ("*",)
    leave: tuple[str, ...] = ()
    speaker: str = ""
    minutes: float = 60.0
    file_s: float = 30.0

    joins = True  # Windows of a second are drawn from noise: shorter sounds are put one after the other.
    keywords = COMMANDS | {"know", "knows", "write", "rite"}
    licence_files = r"(?i)(licen[cs]|copying|credits|authors|sources|readme)[^/.]*(\.(txt|md|adoc|markdown|assets))?$"
    subtitles = ""

    @property
    def folder(self) -> str:
        """Where its sounds are written, below the folder of the kind."""
        return f"{self.group}/{self.name.replace('/', '+')}"


_long, _voices, _wake, _real, _words = (
    partial(Repository, kind="speech", group=group) for group in ("long", "voices", "wake", "real", "words")
)
_home, _other = (partial(Repository, kind="noise", group=group) for group in ("home", "other"))

REPOSITORIES = (
    # Sentences, and a tale: what is named after a keyword, or a homophone of one, is left out.
    _long(
        "neonbjb/tortoise-tts",
        "8a2563ecabe93c4fb626f876dd0c52c966edef2f",
        "Apache-2.0",
        take=("/examples/*",),
        leave=("*/tacotron_comparison/*", "*stop_for_death*", "*beat_on*", "*_know_*"),
        speaker=r"/([^/.]+)\.mp3$",
        minutes=110,
        file_s=300,
    ),
    # One text in many voices.
    _voices(
        "T145/vctk-vits-speaker-comparison",
        "736518b8e31a33abf7df4068161a2035112ac19f",
        "MIT; voices of VCTK, CC-BY 4.0",
        take=("/output/*",),
        speaker=r"/(\d+)\.",
        minutes=75,
        file_s=60,
    ),
    _voices(
        "MycroftAI/mimic3-voices",
        "b239a9084e21fbaa7ac78ea6e31f5de1c31c8f42",
        "CC-BY-SA 4.0",
        take=("/samples/en_us/*",),
        speaker=r"sample_?(\w*)\.",
    ),
    _voices(
        "rhasspy/larynx",
        "3a2ee55ae929aee893092b6d3e8275a48cb2a7d1",
        "MIT; voices CC0, CC-BY and CMU",
        take=("/local/en-us/*/samples/*",),
        speaker=r"en-us/([^/]+)-glow",
    ),
    # Wake words of other systems, and what sounds like them.
    _wake(
        "MycroftAI/Precise-Community-Data",
        "4854e39b7f8c0e14d387d4e135aa10486f5158bf",
        "public domain",
        take=("*/en/*", "*/en-us/*"),
        leave=("*marvin*", "*sheila*"),
        speaker=r"^([a-z-]+)/",
    ),
    # Recorded sentences.
    _real(
        "SandyPanda-MLDL/ALGAN-VC-Generated-Audio-Samples",
        "109a95651bf8fa13e8a8e50b27e2805498c109d0",
        "MIT",
        take=("/speaker_*",),
        speaker=r"(Speaker_\d+)",
    ),
    _real(
        "ming024/FastSpeech2",
        "d4e79eb52e8b01d24703b2dfc0385544092958f3",
        "MIT; LJ Speech, public domain",
        take=("/demo/ljspeech/lj0*",),
    ),
    _real(
        "auspicious3000/autovc",
        "c1827a60e83e6d26030b8953843b2f7cf2bd36db",
        "MIT; VCTK, CC-BY 4.0",
        take=("/wavs/*",),
        speaker=r"/(p\d+)/",
    ),
    _real(
        "castorini/howl",
        "4ba5f42e8af0100d65d62a5a059269ad108eb0f8",
        "MPL-2.0; Common Voice, CC0",
        take=("*/common_voice_*",),
        speaker=r"(common_voice_\w+)\.",
    ),
    _real(
        "cmusphinx/pocketsphinx",
        "511126b492dcb267cf30d49d631946d7b61a9530",
        "BSD-2-Clause",
        take=("/test/data/cards/*",),
    ),
    # Single words, and syllables.
    _words(
        "suragch/aePronunciation",
        "177c1e19f7ab0e82820d16eddb1365f5552937b5",
        "GPL-3.0",
        take=("*.mp3",),
        leave=("*/double_[ng]_ou.*", "*/double_vu_p.*", "*/double_[ac]_[nf].*"),
    ),
    _words("n0madic/BasicEnglish", "bf9ad7ea127c0789d3939130680e6dd1f51d9537", "GPL-3.0", take=("/audio/*",)),
    _words(
        "TeacherEvan/English-K1Run",
        "a81346a7e690a4d5235d2066fa5acd6ed50aeb62",
        "MIT",
        take=("/sounds/*",),
        leave=("*_thai.*",),
    ),
    _words(
        "wangchengyu/EnglishListenTest",
        "e14c78298402c3cdce4757bd681e887a7f2eb021",
        "GPL-3.0",
        take=("/audio/*",),
        leave=("*[!\x00-\x7f]*",),
    ),
    _words(
        "PacktPublishing/Artificial-Intelligence-with-Python",
        "d930bc2d055433781559683f69e05207f0eaab13",
        "MIT",
        take=("*/data/*",),
        speaker=r"/data/(\w+)/",
    ),
    _words(
        "Jakobovski/free-spoken-digit-dataset",
        "26eb9aaf76e81b692f806f9140c2d2777410d7a1",
        "CC-BY-SA 4.0",
        take=("/recordings/*",),
        speaker=r"\d_([a-z]+)_",
    ),
    _words("timlev/Learning-English", "b4d2b03cac1320e4d1fb70d88a4b54a18120aaa1", "MIT", take=("/units/*",)),
    _words(
        "yaapu/FrskyTelemetryScript",
        "4ff8bb31b4a798ff5c5107b478388deb1b702a9e",
        "GPL-3.0",
        take=("/ethos/*/audio/en/*", "/otx_etx/c480x272/*/sounds/en/*"),
        leave=("*/[0-9]*", "*no*", "*simpleo*", "*takeoff*", "*up45*"),
    ),
    # Animals, weather, machines, and what people do besides speaking. Of these and of the next, files of some MiB are
    # left out, too.
    _home("AntumDeluge/mobs_animal", "52d4d450275dfb1a60af697ad2d20a7d117cce6e", "MIT"),
    _home("ElCeejo/animalia", "5895f403fd43a9464e06b3675af3495f50565a3f", "MIT", leave=("*/morbiu.*",)),
    _home("Muges/ambientsounds", "7ef9aefeeed93c37bca3cdb246a982dd1afce2f0", "CC0 and CC-BY"),
    # The ticking clock is a recording of ESC-10.
    _home(
        "RedundantC/wis_part1",
        "9c9adecf2f77b899e7929a3f4a82700d416cb4e4",
        "CC0, CC-BY and CC-BY-SA",
        take=("/mods/sounds/*",),
        leave=("*song*", "*/sounds_clock_tick.*"),
    ),
    _home(
        "Tonejs/audio",
        "efd8296360f9526e379bfbe5c1698ff54d6a1d34",
        "CC-BY 3.0 (Berklee)",
        take=("/berklee/*",),
        leave=("*voice*", "*vocal*", "*mouth*", "*tongue*", "*subway*", "*street*", "*enotherapy*"),
        minutes=50,
        file_s=6,
    ),
    _home(
        "UtrechtUniversity/animal-sounds",
        "374a8e442be3bd816c8833affde1feecf14645f4",
        "Apache-2.0",
        take=("*/processed_wav_files/*", "*/synthetic_intermediate/background/*"),
    ),
    _home(
        "a1354013-alt/covid_cough_detection_complete_with_dataset",
        "cbec1503d47f8dbde3f58eec7303d3154cbe7d7d",
        "MIT; COUGHVID, CC-BY 4.0",
    ),
    _home(
        "gveres/donateacry-corpus",
        "6baf5aca0460964ad072653585837f968a87c2af",
        "ODbL 1.0",
        take=("/donateacry_corpus_cleaned_and_updated_data/*",),
        minutes=30,
    ),
    _home("hvillase/cavlp-25p", "bbcf7db966d52ebbb4b6b54c34541d289771b266", "GPL-3.0", take=("/sonidos/*",)),
    _home(
        "jenius-apps/ambie",
        "7a4580b9fd6551c6e5ca2a1dea1e3501c7e37554",
        "MIT; of Freesound, see Data.json there",
        take=("*/assets/*",),
        leave=("*coffeeshop*", "*citystreet*", "*/beach.*", "*/creek.*", "*/rain.*", "*/underwater.*"),
    ),
    _home(
        "justinsalamon/scaper",
        "7fc9c2be303715fdd56f222753c8b2ce23e58efb",
        "BSD-3-Clause",
        take=("/tests/data/audio/*",),
        leave=("*human_voice*", "*/street/*", "*/restaurant/*", "*/park/*", "*/siren/*"),
    ),
    _home(
        "kitzeslab/opensoundscape",
        "8b582152c91df6f1d4387b23e1ca849be70f4cea",
        "MIT",
        take=("*/sample_data/*", "/tests/audio/*"),
        leave=("*silence*", "*empty*", "*/msd-*"),
    ),
    _home(
        "mateusfg7/Noisekun",
        "d32024c67aba7c0577e1609944af00b9df1b7775",
        "CC0 and others, see README.md there",
        take=("*/sounds/*",),
        leave=("*coffee*", "*playground*"),
    ),
    _home(
        "rafaelmardojai/blanket",
        "8b1c27aedde1d6ad8053ce5ad351a2924bcdb766",
        "CC0, CC-BY, CC-BY-SA and public domain",
        take=("*/sounds/*",),
        leave=("*coffee-shop*", "*/city.*", "*/stream.*"),
    ),
    _home(
        "remvze/moodist",
        "983f7412e8cd054e76d156977c563da2028e4428",
        "Pixabay and CC0",
        take=("/public/sounds/*",),
        leave=(
            "*/places/*",
            "*/chickens.*",
            "*/binaural/*",
            "*crowd*",
            "*busy-street*",
            "*radio*",
            "*singing*",
            "*silence*",
        ),
    ),
    _home("rse/soundfx", "ca23429724d2a2ad8105fb00241811c8a639b32d", "CC0 and CC-BY 3.0", leave=("*sprite*",)),
    _home(
        "runsy/petz", "48a3df7e3f5263f45761ef60b8c117f582efe6b5", "GPL-3.0 and others, see petz/sounds/LICENSE.MD there"
    ),
    # Games, devices, instruments.
    _other("Calinou/kenney-interface-sounds", "4596a49eaf5a533948d49a47467f606bcdea70ff", "CC0"),
    _other(
        "Fris0uman/CDDA-Soundpacks",
        "88586bb600eae4b053a8928bddbd5371d0b1ecc6",
        "CC-BY-SA 4.0",
        leave=("*/radio/*", "*/speech/*"),
    ),
    _other(
        "GStoob/unitopia-soundpack",
        "cb67c0f7d905b6a1e5ad2010d21f6a92e1c2afcd",
        "CC-BY 3.0 and 4.0, CC0",
        take=("/sounds/*",),
        leave=("*/comm/*", "*/ocean.*", "*/flying.*", "*/music/*"),
    ),
    _other(
        "Golfavel/CDDA-Soundpacks_BeepBoop",
        "1b3e7d6b065b7e96c68f97ae6927b333817cd923",
        "CC-BY-SA 4.0",
        take=("/sound/*",),
    ),
    _other(
        "JBFH-Dev/Keystroke-Datasets", "2ecdc09b6d1868aae50813f6a6c842bdd52dab06", "MIT", take=("/zoom/*",), minutes=13
    ),
    _other(
        "OpenHV/OpenHV",
        "d507035349b05a774baedbdebd2e60abb6c57895",
        "CC0, CC-BY 3.0 and 4.0",
        take=("*/cc-by-30/*", "*/cc-by-40/*", "*/cc0/*", "*/pd/*"),
    ),
    _other(
        "OpenRCT2/OpenSoundEffects",
        "0918c4828d47d7bf6c8ce5ff10523651f7e3e60d",
        "CC-BY 4.0",
        leave=("*/crowd.*", "*/scream*", "*/news.*"),
    ),
    _other(
        "VoxeLibre/VoxeLibre",
        "26455efb810bfba20a5937bdd9b07cf48cc63825",
        "GPL-3.0, CC-BY-SA and others",
        leave=("*villager*",),
    ),
    _other(
        "aharri/abuse-free-sounds",
        "ef92120cb15f94ac3b6f249db5ab6230a9fa7c47",
        "public domain, CC-BY-SA 3.0 and GPL-2+",
        take=("/sfx/*",),
    ),
    _other(
        "freedoom/freedoom",
        "d14dbbee3b6fbfb2c11cdb65eb61216e86d4ee85",
        "BSD-3-Clause",
        take=("/sounds/*",),
        leave=("*/dsnoway.*",),
    ),
    _other("freegish/freegish", "dc21281678a43cb1427c8c2780679181de55c00f", "CC-BY-SA 3.0", take=("*/sound/*",)),
    _other("freepats/old-piano-FB", "9707673c65d8a52d7b374af807384005564a89f2", "CC0", take=("/samples/*",)),
    _other(
        "godotengine/godot-demo-projects",
        "cae8dc567a56d3e7936f171bcb85f0ccb9634ad0",
        "MIT, CC0 and CC-BY",
        leave=("*/translation/*", "*/mic_record/*"),
    ),
    _other("hainguyents13/mechvibes", "96920948c9aec41ab7c49cdff30fc90ce4ab9946", "MIT", take=("/src/audio/*",)),
    _other(
        "librosa/data",
        "450cdd8a002c98e7bdbfebb309fc1ed024001f77",
        "CC0 and CC-BY",
        leave=("*.hq.*", "*/[0-9]*-[0-9]*-0*", "*karissa*", "*vibe_ace*", "*drum-bass*"),
    ),
    # Fire.ogg is a recording of ESC-10; what the figures say may be words.
    _other(
        "openclonk/openclonk",
        "db975b4a887883f4413d1ce3181f303d83ee0ab5",
        "CC-BY 3.0",
        leave=("*/fire.ogg", "*/skin.ocg/*", "/planet/music.ocg/*"),
    ),
    _other("pepperonas/sound-effects", "6639525f1a470abd25319839cba18f3cbdf0c336", "MIT", take=("/output/*",)),
    _other(
        "redeclipse/sounds",
        "ce37957f444a5402b9b5a899032c70453f85db16",
        "CC-BY-SA 4.0 and others",
        leave=("/announcer/*", "/voice/*", "/egmusic/*"),
        minutes=25,
    ),
    _other("simutrans/pak128", "1d150f2913f1b9c04f9400a87ede3cc252765bbf", "Artistic-2.0", take=("*/sound/*",)),
    _other(
        "skratchdot/philharmonia-samples",
        "717b7de2bcae05e44aa8a3dde143c8d093b8f6c8",
        "CC-BY-SA 3.0",
        take=("*_very-long_*", "*_phrase_*", "*/percussion/*"),
        minutes=30,
    ),
)

"""Labels that name no keyword."""

SILENCE = "silence"
UNKNOWN = "unknown"
_NOT_KEYWORDS = {SILENCE, UNKNOWN, "background", "background_noise", "noise"}


def is_keyword(label: str) -> bool:
    """Whether `label` names a word to detect; spellings such as ``_unknown_`` and ``_background_noise_`` do not."""
    return label.strip("_").lower() not in _NOT_KEYWORDS

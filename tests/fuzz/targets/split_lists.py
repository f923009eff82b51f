"""Lists of the clips that are for validation and testing."""

from __future__ import annotations

from host_tools.data.dataset import index_clips
from tests.fuzz import folder

CLIPS = [f"{word}/0a7c2a8d_nohash_{i}.wav" for word in ("yes", "no") for i in range(3)]


def seeds():
    yield "\n".join(CLIPS[:2]).encode()
    yield "\ufeff".encode() + "\r\n".join(CLIPS[:2]).encode()
    yield "\n".join(CLIPS[:2]).encode("utf-16")
    yield "\n".join(f".\\{clip}".replace("/", "\\") for clip in CLIPS[:2]).encode()
    yield "\n".join(f"/data/speech_commands/{clip}" for clip in CLIPS[:2]).encode()


def consume(data):
    root = folder() / "clips"
    for clip in CLIPS:
        (root / clip).parent.mkdir(parents=True, exist_ok=True)
        (root / clip).touch()
    (root / "validation_list.txt").write_bytes(data)
    assert index_clips(root)

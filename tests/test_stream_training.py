"""Networks with state: how they come from those of clips, what they train on, and runs of them."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from host_tools.config import AugmentConfig, MixConfig, SequenceConfig, StageConfig
from host_tools.sampling.examples import load_examples
from host_tools.sampling.placing import CUT, HALF, OTHER, Placing
from host_tools.sampling.sequences import SequenceBatches, Sequences
from host_tools.sampling.tracks import Tracks
from host_tools.sampling.words import Words
from kws_edge.model.model import Model
from kws_edge.model.step_graph import StepInterpreter
from kws_edge.model.tflite import FlatModel
from kws_edge.presets import preset
from tests import forked
from tests.conftest import assert_one_line_error_at_end, assert_usage_error, train_command
from tests.tones import data_of

keras = pytest.importorskip("keras", exc_type=ImportError, reason="Keras is not installed here")
pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")

from host_tools.convert.lock_section import lock_section  # noqa: E402
from host_tools.convert.step_graph import to_step_int8  # noqa: E402
from host_tools.networks.heeding import heeding_speech, speech_before  # noqa: E402
from host_tools.networks.models import build, count_macs  # noqa: E402
from host_tools.networks.streaming import (  # noqa: E402
    SCORE_OFFSET,
    answer_frames,
    scores_of,
    scoring,
    set_by_name,
    states,
    transfer_clip,
)
from host_tools.training.curves import read_log  # noqa: E402
from host_tools.training.run import load_run  # noqa: E402
from host_tools.training.sequences import AnswerLoss  # noqa: E402

pytestmark = [pytest.mark.host, pytest.mark.xdist_group("training"), pytest.mark.timeout(600)]
FRONT_END = preset("logmel40")
RECIPE = Path(__file__).parent / "recipes" / "tones-stream.toml"
LABELS = ("unknown", "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


@pytest.mark.parametrize(
    ("name", "parameters", "macs", "state", "frames"),
    [
        ("stream_residual", 479_499, 14_080_000, 7728, 4),
        ("stream_micro", 124_811, 2_956_800, 5440, 4),
        ("stream_word", 38_027, 1_178_496, 2448, 3),
    ],
)
def test_networks_cost_what_they_say(name, parameters, macs, state, frames):
    network = build(name, FRONT_END, 11)
    sizes = [np.prod(one.shape[1:]) for one in network.inputs[1:]]
    assert (network.count_params(), count_macs(network), sum(sizes)) == (parameters, macs, state)
    assert answer_frames(network) == frames


def randomised(network, seed):
    """Weights of which none hides a tap or a channel."""
    rng = np.random.default_rng(seed)
    for layer in network.layers:
        shapes = [w.shape for w in layer.get_weights()]
        if isinstance(layer, keras.layers.BatchNormalization):
            n = shapes[0][0]
            layer.set_weights(
                [rng.uniform(0.5, 1.5, n), rng.normal(0.2, 0.3, n), rng.normal(0, 0.1, n), rng.uniform(0.5, 2, n)]
            )
        elif shapes:
            layer.set_weights([rng.normal(0, 1.5 / np.sqrt(np.prod(shape[:-1]) or 1), shape) for shape in shapes])


def levels_of(n, seed=0):
    return np.random.default_rng(seed).uniform(30, 255, (1, n, 1, FRONT_END.n_mels)).astype(np.float32)


def test_a_network_of_clips_goes_on_with_state():
    """Where the clips' kernels have no taps of a future that is lost, every channel is the same, later."""
    long = dataclasses.replace(FRONT_END, clip_ms=6045)
    assert (long.n_frames - 2) % 8 == 0, "strides pad as they do in a second"
    clip, network = build("residual", long, 12), build("stream_residual", FRONT_END, 11)
    randomised(clip, 1)
    known = ("silence", *LABELS)
    assert transfer_clip(clip, known, network, LABELS) == []
    for layer in clip.layers:  # leave only the taps that were taken over
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel.shape[0] == 9:
            number, first = int(layer.name[5]), layer.name.endswith("conv1")
            future = {1: 4, 2: 1}.get(number, 0)
            oldest, newest = -4 + (first and number in (1, 3, 5)), future
            if first and number in (1, 3):
                newest = 1 + 2 * (future // 2)
            kernel = layer.get_weights()[0]
            taps = np.arange(9) + oldest
            kernel[(taps > newest) | (taps < newest - 4 - future)] = 0
            layer.set_weights([kernel])
    levels = levels_of(long.n_frames)
    features = keras.Model(clip.inputs[0], clip.get_layer("block6_sum").output)(levels.transpose(0, 1, 3, 2))
    stream = keras.Model(network.inputs, network.get_layer("block6_sum").output)
    late = np.array(stream([levels[:, 2:], *states(network, 1)]))[0, :, 0]  # the stem hears 3 frames: 2 more
    clips = np.array(features)[0, :, 0]
    delay = (120 + 40) // 40  # of the first and the second block, in ms
    inner = np.arange(len(clips) // 3, 2 * len(clips) // 3)
    assert clips[inner].std() > 0.1
    np.testing.assert_allclose(late[2 * inner + delay, : clips.shape[1]], clips[inner], rtol=2e-3, atol=2e-3)


def test_a_wider_network_begins_with_what_the_narrow_one_computes():
    clip = build("residual", FRONT_END, 12)
    randomised(clip, 1)
    networks = [build("stream_residual", FRONT_END, 11, width=width) for width in (1, 1.5)]
    x = levels_of(80)
    for network in networks:
        transfer_clip(clip, ("silence", *LABELS), network, LABELS)
    both = [np.array(scoring(one)([x, *states(one, 1)])) for one in networks]
    np.testing.assert_allclose(both[0], both[1], rtol=1e-4, atol=1e-3)


def test_transfer_names_words_that_are_new():
    clip, network = build("residual", FRONT_END, 4, width=0.34), build("stream_residual", FRONT_END, 3, width=0.34)
    assert transfer_clip(clip, ("silence", "unknown", "yes", "no"), network, ("unknown", "yes", "bed")) == ["bed"]


def test_the_loss_is_that_of_each_answer():
    rng = np.random.default_rng(0)
    targets, logits = rng.normal(0, 1, (2, 5, 3)).astype(np.float32), rng.normal(0, 2, (2, 5, 3)).astype(np.float32)
    targets[:, 0] = 0
    expected, p = 0.0, 1 / (1 + np.exp(-logits.astype(float)))
    for at in np.ndindex(targets.shape):
        weight = abs(targets[at])
        expected -= weight * (np.log(p[at]) if targets[at] > 0 else (1 if at[2] == 1 else p[at]) * np.log(1 - p[at]))
    loss = AnswerLoss(1)(targets, logits[:, :, np.newaxis] + SCORE_OFFSET)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def speech_share(logits, earliest, latest):
    """The mean of values from `earliest` to `latest` answers before each answer; shape (n, answers, 1)."""
    padded = np.pad(logits, ((0, 0), (earliest, 0)))
    answers = logits.shape[1]
    window = range(earliest - latest + 1)
    return np.mean([padded[:, i : i + answers] for i in window], axis=0)[:, :, np.newaxis]


def test_negatives_after_speech_are_lowered_and_words_are_not():
    """As the network that is kept lowers both, a word after speech learns as much as one after a pause."""
    rng, cost, before = np.random.default_rng(0), 5.0, (7, 3)
    logits = rng.normal(0, 2, (2, 12, 3)).astype(np.float32)
    speech = 1 / (1 + np.exp(-logits[:, :, 1].astype(float)))
    lowered = logits.astype(float) - cost * speech_share(speech, *before) * [1, 0, 1]
    likely = 1 / (1 + np.exp(-lowered))
    likely[:, :, 1] = 1
    scores = keras.ops.convert_to_tensor(logits[:, :, np.newaxis] + SCORE_OFFSET)
    loss, plain = AnswerLoss(1, cost, before), AnswerLoss(1)
    unwanted = -np.ones_like(logits)
    assert float(loss(unwanted, scores)) == pytest.approx((likely * np.log1p(np.exp(lowered))).sum(), rel=1e-4)
    np.testing.assert_allclose(gradient(loss, unwanted, scores), likely / (1 + np.exp(-lowered)), rtol=1e-3, atol=1e-5)
    assert np.array_equal(gradient(loss, -unwanted, scores), gradient(plain, -unwanted, scores))
    again = AnswerLoss.from_config(loss.get_config())
    assert float(again(unwanted, scores)) == float(loss(unwanted, scores))


def test_the_loss_of_a_teacher_is_least_at_its_posteriors():
    """After speech, too, where the teacher's scores are lowered as the network's are."""
    rng, loss = np.random.default_rng(0), AnswerLoss(1, 5.0, (7, 3))
    logits = rng.normal(0, 2, (2, 12, 3)).astype(np.float32)
    speech = 1 / (1 + np.exp(-logits[:, :, 1]))
    lowered = logits - 5 * speech_share(speech, 7, 3).astype(np.float32) * [1, 0, 1]
    posteriors = 1 / (1 + np.exp(-lowered))
    targets = np.concatenate([np.zeros_like(logits), posteriors, 1 - posteriors], axis=-1)
    scores = keras.ops.convert_to_tensor((logits[:, :, np.newaxis] + SCORE_OFFSET).astype(np.float32))
    np.testing.assert_allclose(gradient(loss, targets.astype(np.float32), scores), 0, atol=1e-5)
    entropy = -posteriors * np.log(posteriors) - (1 - posteriors) * np.log(1 - posteriors)
    assert float(loss(targets.astype(np.float32), scores)) == pytest.approx(entropy.sum(), rel=1e-3)
    hard = rng.normal(0, 1, logits.shape).astype(np.float32)
    both = np.concatenate([hard, *np.split(targets, 3, axis=-1)[1:]], axis=-1).astype(np.float32)
    assert float(loss(both, scores)) == pytest.approx(entropy.sum() + float(loss(hard, scores)), rel=1e-3)


def gradient(loss, targets, scores):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(scores)
        value = loss(targets, scores)
    return tape.gradient(value, scores).numpy()[:, :, 0]


@pytest.fixture
def heeding():
    """A network whose scores cross all thresholds, with and without heeding speech; cost 4, the second word speech."""
    network = build("stream_micro", FRONT_END, 3, width=0.25)
    randomised(network, 5)
    logits = np.array(scoring(network)([levels_of(800), *states(network, 1)]))[0, :, 0]
    kernel, bias = network.get_layer("words").get_weights()
    factor = 3 / logits.std(axis=0)
    network.get_layer("words").set_weights([kernel * factor, SCORE_OFFSET + factor * (bias - logits.mean(axis=0))])
    return network, heeding_speech(network, 1, 4.0, FRONT_END)


def test_the_network_lowers_scores_of_words_after_speech(heeding):
    network, heeds = heeding
    levels = levels_of(800)
    levels[:, 300:520] = 30
    plain, found = scores_of(network, levels), scores_of(heeds, levels)
    speech = np.clip(plain[:, :, 1] - SCORE_OFFSET + 3, 0, 6) / 6
    assert speech.std() > 0.1
    earliest, latest = speech_before(FRONT_END.hop_ms, answer_frames(network))
    assert (earliest * 40, latest * 40) == (1840, 520)
    expected = np.maximum(0, plain - 4 * speech_share(speech, earliest, latest) * [1, 0, 1])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert (found[:, :, [0, 2]] <= plain[:, :, [0, 2]]).all()
    assert (plain - found).max() > 1


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras's own
def test_the_network_that_heeds_speech_is_a_usual_one(heeding, tmp_path):
    network, heeds = heeding
    levels = levels_of(400)
    heeds.save(tmp_path / "a.keras")
    for again in (keras.models.load_model(tmp_path / "a.keras"), keras.models.clone_model(heeds)):
        again.set_weights(heeds.get_weights())
        assert not {"doubt", "speech", "before", "heeding"} & {w.path.split("/")[0] for w in again.trainable_weights}
        assert np.array_equal(scores_of(again, levels), scores_of(heeds, levels))
    other = heeding_speech(build("stream_micro", FRONT_END, 3, width=0.25), 1, 4.0, FRONT_END)
    set_by_name(other, scoring(network))
    np.testing.assert_allclose(scores_of(other, levels), scores_of(heeds, levels), atol=1e-4)


def test_weights_by_name_leave_other_words_out():
    wide, narrow = build("stream_micro", FRONT_END, 5), build("stream_micro", FRONT_END, 2)
    randomised(wide, 3)
    set_by_name(narrow, wide)
    x = levels_of(40)
    both = [np.array(scoring(one)([x, *states(one, 1)])) for one in (wide, narrow)]
    np.testing.assert_allclose(both[0][..., :2], both[1], rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def examples(folder):
    return load_examples(data_of(folder), FRONT_END, LABELS, sequence_frames=400)


def batches(examples, *, others=(), seed=1, augment=None, mined=0.0, **options):
    mix = MixConfig(augment=augment or AugmentConfig(gated=0.0), mined=mined)
    sequences = SequenceConfig(**options)
    return SequenceBatches(examples, mix, sequences, answer_frames=4, batch_size=16, seed=seed, others=others)


def test_the_same_seed_gives_the_same_bits(examples):
    strong = AugmentConfig(reverberation=0.5, equalisation_db=6.0, gated=0.3)
    first, again, other = (batches(examples, seed=seed, augment=strong, others=("bed",)) for seed in (1, 1, 2))
    for a, b in zip(first.batch(3, 1), again.batch(3, 1), strict=True):
        assert a.dtype == np.float32
        assert a.tobytes() == b.tobytes()
    assert first.batch(3, 1)[0].tobytes() != first.batch(3, 2)[0].tobytes()
    assert first.batch(3, 1)[0].tobytes() != other.batch(3, 1)[0].tobytes()
    made = list(first.epoch(3, 5))
    assert len(made) == 5
    assert made[1][1].tobytes() == again.batch(3, 1)[1].tobytes()


def test_words_sound_where_they_are_said(examples):
    """Without noise, sound lies within the spans of words, and all words of a sequence follow one another."""
    quiet = batches(
        examples, augment=AugmentConfig(noise_share=0.0, gated=0.0), hiss_share=0.0, halves=0.0, wordless=0.0
    )
    made = quiet.draw(24, np.random.default_rng(5))
    assert made.levels.shape == (24, 400, 1, 40)
    loud = made.levels[:, :, 0].max(axis=2) > made.levels.min() + 90
    near = np.zeros(loud.shape, bool)
    for number, first, last, output, _ in made.words:
        near[number, max(0, first - 3) : last + 3] = True
        assert output in (OTHER, CUT) or 0 < output < len(LABELS)
    assert loud.mean() > 0.1
    assert (loud & ~near).sum() < 0.02 * loud.sum()
    for number in range(24):
        spans = made.words[made.words[:, 0] == number][:, 1:3]
        assert len(spans)
        assert (spans[1:, 0] >= spans[:-1, 1] - 1).all()
    assert (made.voice == 1).mean() > 0.2


def one(words, *, unsure=(), voice=0, frames=400):
    """A sequence by hand."""
    mask = np.zeros((1, frames), bool)
    for first, last in unsure:
        mask[0, first:last] = True
    rows = np.array([(0, *word) for word in words], np.int32).reshape(-1, 5)
    return Sequences(np.zeros((1, frames, 1, 40), np.float32), rows, mask, np.full((1, frames), voice, np.int8))


def test_targets_ask_for_a_word_after_its_end(examples):
    maker = batches(examples, others=("bed",), negatives=1.0)
    yes, bed = LABELS.index("yes"), len(LABELS)
    made = one([(100, 150, yes, True), (200, 240, bed, True), (300, 340, HALF, False), (20, 60, OTHER, True)])
    targets = maker.targets(made)[0]
    ends = 4 * np.arange(1, 101)
    asked = (ends >= 160) & (ends < 186)
    assert np.array_equal(targets[:, yes] > 0, asked)
    total = 1 + 1 + 0.3
    assert targets[asked, yes].sum() == pytest.approx(1 / total)
    assert targets[:, bed][targets[:, bed] > 0].sum() == pytest.approx(0.3 / total)
    free = targets[:, yes] == 0
    assert np.array_equal(free | asked, (ends >= 140) & (ends < 210))
    no = LABELS.index("no")
    np.testing.assert_allclose(targets[:, no], -4 * 10 / 300 / total, rtol=1e-5)
    assert (targets[:5, 0] == 0).all(), "the past of the first answers is not known"
    assert (targets[5:, 0] < 0).all()
    assert np.abs(targets[:, 0]).sum() == pytest.approx(0.5)


def test_targets_leave_out_what_nobody_knows(examples):
    maker = batches(examples)
    yes = LABELS.index("yes")
    made = one([(100, 150, yes, False)], unsure=[(200, 300)], voice=1)
    targets = maker.targets(made)[0]
    assert not (targets[:, 1:] > 0).any(), "a word that need not be heard is not asked for"
    assert (targets[36:50, yes] == 0).all()
    assert (targets[50:75, 1:] == 0).all()
    assert (targets[75:, yes] < 0).all()
    assert (targets[5:, 0] > 0).all()


def test_noise_speech_and_words_come_in_their_shares(examples):
    shares = {"keyword_share": 0.4, "halves": 0.15, "other_share": 0.15, "cut_speech": 0.15}
    maker = batches(examples, wordless=0.5, others=("bed", "cat"), **shares)
    made = maker.draw(400, np.random.default_rng(0))
    words = made.words
    assert len({*words[:, 0]}) / 400 == pytest.approx(0.5, abs=0.08)
    keyword = (words[:, 3] > 0) & (words[:, 3] < len(LABELS))
    kinds = [keyword, words[:, 3] == HALF, words[:, 3] >= len(LABELS), words[:, 3] == CUT, words[:, 3] == OTHER]
    np.testing.assert_allclose([one.mean() for one in kinds], [*shares.values(), 0.15], atol=0.07)
    assert 0.3 < words[keyword, 4].mean() < 1


def test_tracks_know_where_keywords_are_said():
    tracks = Tracks(100, -1.0)
    recordings = [np.full((n, 3), i, np.float16) for i, n in enumerate((300, 50))]
    assert tracks.add(recordings, [[(100, 120)], []]) == 350
    assert tracks.add([], []) == 0
    levels, said = tracks.draw(200, np.random.default_rng(0))
    assert levels.shape == (200, 100, 3)
    assert {*np.unique(levels)} == {-1.0, 0.0, 1.0}
    lengths = said.sum(axis=1)
    assert lengths.max() == 10 + 20 + 60
    assert lengths.min() == 0


def test_a_short_recording_is_followed_by_silence():
    tracks = Tracks(100, -1.0)
    tracks.add([np.ones((30, 2), np.float16)], [[]])
    levels, _ = tracks.draw(3, np.random.default_rng(0))
    assert (levels[:, :30] == 1).all()
    assert (levels[:, 30:] == -1).all()


def speech_of(rng, said, frames=6000):
    """A recording of which every 50 frames 10 are soft, and spans with a keyword."""
    levels = rng.uniform(150, 200, (frames, 4)).astype(np.float16)
    levels.reshape(-1, 50, 4)[:, :10] -= 100
    tracks = Tracks(200, -1.0)
    tracks.add([levels], [said])
    return tracks


def test_pieces_of_speech_are_cut_at_soft_places_and_hold_no_keyword():
    rng = np.random.default_rng(0)
    tracks = speech_of(rng, [(at, at + 60) for at in range(100, 6000, 400)])
    tracks.groups[0].levels[:, 3] = tracks.groups[0].said  # a mark
    levels, spans = tracks.cut(300, 98, rng)
    assert 250 < len(levels) == len(spans) <= 300
    lengths = spans[:, 1] - spans[:, 0]
    assert lengths.min() >= 10
    assert lengths.max() > 60
    assert (spans >= 0).all() and (spans <= 98).all()
    for one, (first, last) in zip(levels, spans, strict=True):
        assert not one[first:last, 3].any()
    first, last = spans.T
    ends = np.stack([levels[np.arange(len(levels)), at, :3].mean(axis=1) for at in (first, last)])
    assert (ends < 100).mean() > 0.45, "a fifth of all frames is soft"
    again = speech_of(np.random.default_rng(0), []).cut(5, 98, np.random.default_rng(1), mined=0.5)
    first = speech_of(np.random.default_rng(0), []).cut(5, 98, np.random.default_rng(1), mined=0.5)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(again, first, strict=True))


def test_where_keywords_are_everywhere_there_is_no_piece(examples):
    rng = np.random.default_rng(0)
    levels, spans = speech_of(rng, [(0, 6000)]).cut(20, 98, rng)
    assert levels.shape == (0, 98, 4)
    assert spans.shape == (0, 2)
    maker = batches(examples, keyword_share=0.0, halves=0.0, other_share=0.0, cut_speech=1.0)
    assert {*maker.draw(20, rng).words[:, 3]} == {CUT}
    for group in maker.speech.groups:
        group.said = np.ones_like(group.said)
    assert {*maker.draw(20, rng).words[:, 3]} == {OTHER}


def test_pieces_end_where_a_network_heard_a_keyword():
    rng = np.random.default_rng(0)
    tracks = speech_of(rng, [])
    tracks.groups[0].levels[3000:3010, 3] = 1000
    tracks.groups[0].hard = np.array([3000])
    heard = [
        (levels[:, :, 3] == 1000).any(axis=1).mean()
        for levels, _ in (tracks.cut(200, 98, rng, mined=m) for m in (0, 0.5, 1))
    ]
    assert heard[0] < 0.1
    assert 0.25 < heard[1] < 0.6
    assert heard[2] > 0.5


def test_words_may_end_before_the_release_of_a_stop(examples):
    """A vowel, a closure and a release, said as words that end in a stop and as one that does not."""
    sound = np.full((98, FRONT_END.n_mels), 30.0, np.float32)
    sound[20:60], sound[66:72] = 200, 180
    raw = sound[np.newaxis] - FRONT_END.level_offset
    words = ("up", "right", "yes")
    own = dataclasses.replace(
        examples, stores=[raw], kinds=["recorded"], by_word={word: np.array([0]) for word in words}
    )
    augment = AugmentConfig(stretch=0.0, equalisation_db=0.0).scaled()
    for share in (0.0, 0.5, 1.0):
        settings = SequenceConfig(
            keyword_share=1.0, halves=0, other_share=0, cut_speech=0, narrow_band=0, wordless=0, unreleased=share
        )
        spoken = Words(dataclasses.replace(own, labels=("unknown", *words)))
        placing = Placing(spoken, ("unknown", *words), 400, settings, augment, examples.speech, 0.0)
        placed = placing.place(100, np.random.default_rng(0))
        stop = np.isin(placed.output, (1, 2))
        lengths = placed.spans[:, 1] - placed.spans[:, 0]
        closed = lengths < 47
        assert {*lengths[~closed]} <= {52.0}
        assert not closed[~stop].any()
        assert closed[stop].mean() == pytest.approx(share, abs=0.1)
        assert (lengths[closed] >= 40).all()


def test_places_in_which_a_network_hears_keywords_are_drawn():
    tracks = Tracks(100, 0.0)
    recording = np.zeros((20_000, 2), np.float16)
    recording[7000:7020] = 5
    recording[15_000:15_020] = 5  # where a keyword is said
    tracks.add([recording], [[(14_990, 15_030)]])

    def heard(raw):
        return raw.max(axis=2).reshape(len(raw), -1, 4).max(axis=2) / 5

    rng, found = np.random.default_rng(0), 0
    for _ in range(8):
        found = max(found, tracks.mine(heard, rng))
        if tracks.groups[0].hard.size:
            break
    assert 1 <= found <= 2
    levels, _ = tracks.draw(300, rng, mined=1.0)
    assert (levels.max(axis=(1, 2)) == 5).all()
    assert levels[:, :88].max(axis=(1, 2)).mean() > 4


def test_validation_words_are_not_those_that_train(examples):
    from host_tools.training.sequences import _validation_words

    heard = _validation_words(examples)
    assert heard.by_word.keys() == {"_unknown_", *LABELS[1:]}
    rows = heard.rows(heard.by_word["yes"])
    levels, truth = examples.validation
    np.testing.assert_allclose(rows, levels[truth == LABELS.index("yes")], atol=1e-3)


SHORT = ("--model", "stream_residual", "--steps", "4", "--epochs", "3", "--batch-size", "8", "--width", "0.34",
         "--sequence-s", "2", "--mined", "0.3", "--reverberation", "0.3")  # fmt: skip


def stream_command(folder, run, *options):
    return [*train_command(folder, run), *SHORT, *options]


@pytest.fixture(scope="module")
def stream_run(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("stream")
    done = forked.run(list(map(str, stream_command(folder, place / "run"))), place, timeout=300)
    assert done.returncode == 0, done.stderr
    return place / "run"


def test_a_run_keeps_what_its_network_needs(stream_run):
    run = load_run(stream_run)
    assert run.labels == LABELS
    model = run.model()
    assert model.outputs[0].shape[-1] == len(LABELS), "outputs of other words only train"
    assert len(model.inputs) == len(model.outputs) > 5
    assert (stream_run / "curves.png").stat().st_size > 1000
    rows = read_log(stream_run)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert {"loss", "val_loss", "val_missed_0.5", "val_false_accepts_0.8", "seconds"} <= rows[0].keys()
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert run.record["best"]["val_loss"] == pytest.approx(min(row["val_loss"] for row in rows), abs=1e-5)
    levels, words = run.sequences("validation"), run.sequence_words()
    assert levels.shape == (256, 200, 1, 40)
    assert {*words[:, 0]} <= {*range(256)}
    assert run.sequences("calibration").shape[1:] == (200, 1, 40)


def same_weights(a, b):
    one, other = (keras.models.load_model(run / "last.keras") for run in (a, b))
    weights = zip(one.get_weights(), other.get_weights(), strict=True)
    optimizers = zip(one.optimizer.variables, other.optimizer.variables, strict=True)
    return all(np.array_equal(x, y) for pairs in (weights, optimizers) for x, y in pairs)


def test_a_killed_run_goes_on_with_the_same_bits(folder, stream_run, run_cli, tmp_path):
    command = stream_command(folder, "run")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "host_tools", *map(str, command)], cwd=tmp_path, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (tmp_path / "run" / "last.keras").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert len(read_log(tmp_path / "run")) < 3
    done = run_cli(*command, package="host_tools")
    assert done.returncode == 0, done.stderr
    assert same_weights(stream_run, tmp_path / "run")
    assert load_run(tmp_path / "run").record["best"] == load_run(stream_run).record["best"]
    assert [row["val_loss"] for row in read_log(tmp_path / "run")] == [row["val_loss"] for row in read_log(stream_run)]


def test_a_run_is_lengthened(stream_run, folder, run_cli, tmp_path):
    shutil.copytree(stream_run, tmp_path / "run")
    done = run_cli(
        "train", "--config", "run", "--epochs", "4", "-o", "run", "--cache", folder / "cache", package="host_tools"
    )
    assert done.returncode == 0, done.stderr
    assert b", from epoch 4 on" in done.stdout
    assert [row["epoch"] for row in read_log(tmp_path / "run")] == [1, 2, 3, 4]


def test_weights_that_are_kept_are_averages(stream_run):
    """Those of the last epoch, if it was the best."""
    run = load_run(stream_run)
    last = keras.models.load_model(stream_run / "last.keras")
    now = last.get_layer("block3_conv1").get_weights()[0]
    last.optimizer.finalize_variable_values(last.trainable_variables)
    average = last.get_layer("block3_conv1").get_weights()[0]
    assert not np.allclose(now, average)
    if run.record["best"]["epoch"] == 3:
        np.testing.assert_array_equal(run.model().get_layer("block3_conv1").get_weights()[0], average)


def test_scores_of_the_run_are_lower_after_speech(stream_run):
    network = load_run(stream_run).model()
    assert [one.name for one in network.inputs][-1] == "speech_past"
    kernel = network.get_layer("heeding").get_weights()[0][0, 0]
    np.testing.assert_allclose(kernel[:-1], np.eye(len(LABELS)))
    np.testing.assert_allclose(kernel[-1], [0, *[-5 / 6] * (len(LABELS) - 1)], rtol=1e-6)


def test_fake_quantisation_leaves_what_heeds_speech(stream_run, folder, run_cli, tmp_path):
    command = ("qat", stream_run, "-o", "qat", "--epochs", "1", "--steps", "3", "--cache", folder / "cache")
    done = run_cli(*command, package="host_tools")
    assert done.returncode == 0, done.stderr
    run, source = load_run(tmp_path / "qat"), load_run(stream_run).model()
    aware = run.model()
    for name in ("doubt", "speech", "before", "heeding"):
        kernel, bias, largest = aware.get_layer(name).get_weights()
        expected = source.get_layer(name).get_weights()
        np.testing.assert_allclose(kernel * largest, expected[0], rtol=1e-6)
        assert np.array_equal(bias, expected[1])
    assert aware.get_layer("levels_range").get_weights() == [0.0, 255.0]
    trained = keras.models.load_model(tmp_path / "qat" / "last.keras")
    assert "heeding" not in [layer.name for layer in trained.layers]
    trained.optimizer.finalize_variable_values(trained.trainable_variables)
    for name in ("stem", "block3_conv1", "words", "scores"):
        for own, averaged in zip(aware.get_layer(name).weights, trained.get_layer(name).weights, strict=True):
            assert np.array_equal(own, averaged), name
    graph = to_step_int8(aware, [], FRONT_END)
    scale = FlatModel(graph, "graph").outputs[0].scale
    levels = np.round(run.sequences("validation")[:1])
    scores = scores_of(aware, levels)[0]
    interpreter = StepInterpreter(FlatModel(graph, "graph"), kernels="builtin").another(200)
    int8 = interpreter.invoke((levels - 128).astype(np.int8))[0, :, 0].astype(np.float32)
    found = (int8 - FlatModel(graph, "graph").outputs[0].zero_point) * scale
    assert np.abs(found - scores).mean() < 2 * scale


def test_runs_start_from_others(stream_run, run_folder, folder, run_cli, tmp_path):
    short = ("--epochs", "1", "--steps", "2")
    done = run_cli(*stream_command(folder, "a", *short, "--start", run_folder), package="host_tools")
    assert f"weights from {run_folder}\n".encode() in done.stdout, done.stderr
    done = run_cli(
        *stream_command(folder, "b", *short, "--start", stream_run, "--labels", "yes,bed"), package="host_tools"
    )
    assert f"weights from {stream_run}; new: bed".encode() in done.stdout, done.stderr
    assert load_run(tmp_path / "b").labels == ("unknown", "yes", "bed")
    done = run_cli(*stream_command(folder, "c", *short, "--width", "1", "--start", "commands12"), package="host_tools")
    assert b"weights from commands12\n" in done.stdout, done.stderr
    done = run_cli(*stream_command(folder, "d", *short, "--model", "stream_micro"), package="host_tools")
    assert done.returncode == 0, done.stderr
    assert load_run(tmp_path / "d").model().name == "stream_micro"


def test_a_run_learns_from_another(stream_run, folder, run_cli, tmp_path):
    """What the teacher says counts as much as asked: alone, it makes the loss that of another training."""
    losses = {}
    for name, options in {
        "own": (),
        "both": ("--teacher", stream_run),
        "none": ("--teacher", stream_run, "--teacher-weight", "0"),
    }.items():
        done = run_cli(*stream_command(folder, name, "--epochs", "1", "--steps", "2", *options), package="host_tools")
        assert done.returncode == 0, done.stderr
        losses[name] = read_log(tmp_path / name)[-1]["loss"]
    assert losses["none"] == losses["own"] != losses["both"]
    assert load_run(tmp_path / "both").model().outputs[0].shape[-1] == len(LABELS)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--model", "stream_word", "--teacher", "{stream}"), "answers every 4 frames, stream_word every 3"),
        (("--teacher", "{clips}"), "needs the front end and the labels"),
        (("--teacher", "{stream},{stream}"), "a network with state learns from one teacher"),
    ],
)
def test_teachers_that_do_not_fit_are_refused(options, expected, stream_run, run_folder, folder, run_cli):
    options = [one.format(stream=stream_run, clips=run_folder) for one in options]
    failed = run_cli(*stream_command(folder, "a", *options), package="host_tools")
    assert_one_line_error_at_end(failed, expected)


def test_starts_that_do_not_fit_are_refused(run_folder, folder, run_cli):
    short = ("--epochs", "1", "--steps", "2")
    small = run_cli(*stream_command(folder, "a", *short, "--width", "0.1", "--start", run_folder), package="host_tools")
    assert_one_line_error_at_end(small, "stream_residual cannot start from residual")
    own = run_cli(
        *stream_command(folder, "b", *short, "--model", "stream_micro", "--start", run_folder), package="host_tools"
    )
    assert_one_line_error_at_end(own, "stream_micro cannot start from residual")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--sequence-s", "3"), "sequence_s is for networks with state, residual is one without it"),
        (("--model", "stream_micro", "--mixup", "0.2"), "mixup is for networks without state"),
        (("--model", "stream_micro", "--log-prior", "yes=1"), "log_prior is for networks without state"),
        (("--model", "stream_micro", "--keyword-share", "0.9", "--halves", "0.2"), "1.42 together"),
        (("--model", "stream_micro", "--answer-ms", "100", "5000"), "within sequence_s, 4 s"),
        (("--model", "stream_micro", "--answer-ms", "100", "100"), "an end after the start"),
    ],
)
def test_options_of_the_other_form_are_refused(options, expected, run_cli):
    failed = run_cli("train", "clips", "-o", "run", *options, package="host_tools")
    assert_usage_error(failed, expected, program="kws-host")


def test_presets_are_configurations():
    from host_tools.training.presets import PRESETS

    for name in ("stream", "microwakeword"):
        config = StageConfig.from_options({"clips": "clips", **PRESETS[name]})
        assert config.network.streams
        assert config.network.outputs == LABELS
    assert config.network.frontend == "microfrontend"


def test_a_recipe_makes_a_file(folder, tmp_path):
    """From clips to a card, by way of sequences, fake quantisation and thresholds."""
    command = [sys.executable, "-m", "host_tools", "recipe", "run", RECIPE, "--data", folder, "-o", tmp_path / "runs"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, timeout=500)
    (file,) = (tmp_path / "runs").glob("tones-stream/tuned-*/tones-stream.tflite")
    model = Model(file)
    assert model.labels == LABELS
    assert model.step.frames == 4
    assert model.metadata.metrics.keys() >= {"validation", "calibration"}
    assert model.metadata.provenance["training"]["sequence_s"] == 2
    (card,) = (tmp_path / "runs").glob("tones-stream/card-*/tones-stream.md")
    assert "stream_residual of width 0.34" in card.read_text()
    (origin,) = (tmp_path / "runs").glob("tones-stream/origin-*/tones-stream.lock.json")
    assert "\n".join(lock_section(json.loads(origin.read_text()))) in card.read_text()
    (accuracy,) = (tmp_path / "runs").glob("tones-stream/accuracy-*/accuracy.json")
    assert json.loads(accuracy.read_text())["results"][0]["labels"] == [*LABELS, "silence"]

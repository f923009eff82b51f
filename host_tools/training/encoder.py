"""Train the encoder that lets a device learn words; see :mod:`kws_edge.teach.encoder`.

The model stays as it is. Its inner activations for many words are computed once. A small head learns to make embeddings
of them that are alike for one word and apart for two, with an additive margin on the cosine (after Wang et al.,
Additive Margin Softmax for Face Verification, 2018).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers
from tqdm import tqdm

from host_tools.config import AugmentConfig
from host_tools.convert.clip_graph import to_int8
from host_tools.data.dataset import index_labelled
from host_tools.data.features import clip_features, levels_to_raw, raw_to_levels, recording_features
from host_tools.data.recordings import find_audio
from host_tools.data.stored_features import load_features
from host_tools.errors import TrainingError
from host_tools.networks.layers import normalised as with_batch_norm
from host_tools.sampling.augment import augment
from host_tools.training.encoder_points import STEP_MS, points, some
from kws_edge.files import sha256_hex, write_atomically
from kws_edge.labels import is_keyword
from kws_edge.model.model import Model
from kws_edge.model.quantization import quantize
from kws_edge.model.tflite.flat_model import FlatModel
from kws_edge.teach.encoder import FORMAT, Encoder, Head, Rivals, TappedInterpreter, normalised

__all__ = ["Examples", "Trunk", "build_head", "read_examples", "tap_of", "train_encoder", "write_encoder"]

_DIMENSIONS, _CHANNELS, _SEGMENTS = 64, (96, 128), 4
_BATCH, _RATE, _DECAY = 256, 2e-3, 0.01
_SCALE, _MARGIN, _SMOOTHING = 24.0, 0.2, 0.05
_PUSHED, _APART, _PUSH = 32, 0.35, 4.0
"""Windows of running speech in a batch, the cosine to a word that they may have, and the weight of more."""
_MOST_OF_A_WORD = 450
_BANK = 2500
"""Embeddings of words, and as many of running speech, that go with the encoder."""
_AUGMENT = AugmentConfig(time_masks=0, frequency_masks=0, snr_db=(5.0, 40.0), equalisation_db=4.0)


class Examples(NamedTuple):
    """Raw levels of words and of other sound."""

    raw: np.ndarray
    """Shape (n, frames, mels), float16."""
    words: np.ndarray
    """The word of each, shape (n,)."""
    speech: list[np.ndarray]
    """Of recordings of running speech, each of shape (frames, mels)."""
    noise: list[np.ndarray]


def tap_of(flat: FlatModel) -> int:
    """Number of the tensor from which the head makes embeddings: where the last two residual blocks begin.

    Layers before it tell sounds apart, those after it only the words that trained them.

    Raises
    ------
    TrainingError
        If the model has fewer residual blocks.
    """
    sums = [op.outputs[0] for op in flat.graphs[0].operators if op.name == "ADD"]
    if len(sums) < 3:
        raise TrainingError(f"{flat.name}: an encoder needs a network of three residual blocks or more")
    return sums[-3]


def read_examples(
    model: Model,
    *,
    features: Path | None,
    words: Sequence[Path],
    speech: Path,
    noise: Path,
    without: Collection[str],
    seed: int,
) -> Examples:
    """Read what trains an encoder; at most 450 clips of a word.

    Parameters
    ----------
    model : Model
    features : path, optional
        Precomputed features; see :func:`host_tools.data.stored_features.load_features`. Those of training speakers
        count.
    words : sequence of path
        Folders of clips, laid out as Speech Commands is.
    speech, noise : path
        Folders of recordings.
    without : collection of str
        Words that do not train.
    seed : int
    """
    c = model.frontend_config
    parts: list[tuple[Any, np.ndarray]] = []
    if features is not None:
        stored = load_features(features, c.feature_shape)
        rows = np.flatnonzero(stored.splits == "training")
        parts.append((stored.levels, np.where(np.isin(np.arange(len(stored.words)), rows), stored.words, "")))
    for folder in words:
        pairs, _ = index_labelled(folder)
        found = clip_features([path for path, _ in pairs], c, what=folder.name)
        names = np.array([label for _, label in pairs])
        names[list(found.skipped)] = ""
        parts.append((found.levels, names))
    rng, raw, labels = np.random.default_rng(seed), [], []
    for store, names in parts:
        for word in sorted(set(names) - {"", *without}):
            rows = np.flatnonzero(names == word)
            rows = np.sort(rng.choice(rows, min(len(rows), _MOST_OF_A_WORD), replace=False))
            levels = store[rows]
            raw.append(levels_to_raw(levels, c).astype(np.float16) if levels.dtype == np.uint8 else levels)
            labels += [word] * len(rows)
    sounds = [recording_features(find_audio(folder).paths, c, what=folder.name)[0] for folder in (speech, noise)]
    long = [[one for one in kind if len(one) > 2 * c.n_frames] for kind in sounds]
    if not raw or not all(long):
        raise TrainingError("an encoder needs words, running speech and noise, each recording longer than two clips")
    return Examples(np.concatenate(raw), np.array(labels), *long)


class Trunk:
    """The model up to the tapped layer.

    Parameters
    ----------
    model : Model

    Raises
    ------
    TrainingError
        If the model cannot have an encoder.
    """

    def __init__(self, model: Model) -> None:
        if model.step is not None or model.input.dtype != "int8":
            raise TrainingError(f"{model.path}: an encoder rides on an INT8 network of clips")
        self.model, self.tap = model, tap_of(model.flat)
        self.interpreter = TappedInterpreter(model.flat, self.tap)
        self.shape = model.flat.tensors[self.tap].shape[1:]

    def maps(self, levels: np.ndarray) -> np.ndarray:
        """The layer's codes for clips of levels, shape (n, steps, 1, channels), int8."""
        out = np.empty((len(levels), *self.shape), np.int8)
        for i, one in enumerate(levels):
            self.interpreter.invoke(self.model.quantize(one.astype(np.float32)))
            out[i] = self.interpreter.tapped[0]
        return out

    def real(self, maps: np.ndarray) -> np.ndarray:
        """What the codes stand for, float32."""
        tensor = self.model.flat.tensors[self.tap]
        return (maps.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)

    def windows(self, recordings: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The codes for the windows of each recording, as live listening hears them."""
        c, hop = self.model.frontend_config, self.model.hop_frames(STEP_MS)
        found = []
        for raw in tqdm(recordings, desc="speech", unit="file", mininterval=0.5):
            levels = raw_to_levels(raw.astype(np.float32), c)
            ends = range(c.n_frames, len(levels) + 1, hop)
            found.append(self.maps(np.stack([levels[end - c.n_frames : end] for end in ends])))
        return found


def _varied(examples: Examples, trunk: Trunk, copies: int, rng: np.random.Generator) -> np.ndarray:
    """Codes of `copies` variations of each word, shape (copies, n, steps, 1, channels), int8."""
    c, n = trunk.model.frontend_config, len(examples.raw)
    out = np.empty((copies, n, *trunk.shape), np.int8)
    for copy in range(copies):
        for at in tqdm(range(0, n, _BATCH), desc=f"variation {copy + 1}", unit="batch", mininterval=0.5):
            raw = examples.raw[at : at + _BATCH].astype(np.float32)
            noise = np.stack([_window(examples.noise, c.n_frames, rng) for _ in raw])
            out[copy, at : at + _BATCH] = trunk.maps(augment(raw, noise, rng, c, _AUGMENT))
    return out


def _window(recordings: Sequence[np.ndarray], frames: int, rng: np.random.Generator) -> np.ndarray:
    one = recordings[int(rng.integers(len(recordings)))]
    start = int(rng.integers(len(one) - frames))
    return one[start : start + frames].astype(np.float32)


def build_head(shape: tuple[int, ...]) -> keras.Model:
    """The head: two convolutions over time, averages of four parts of the clip, an embedding."""
    inputs = keras.Input(shape, name="levels")
    x = inputs
    for i, (channels, stride) in enumerate(zip(_CHANNELS, (1, 2), strict=True), 1):
        name = f"head{i}"
        conv = layers.Conv2D(channels, (5, 1), (stride, 1), padding="same", use_bias=False, name=name)
        x = with_batch_norm(conv(x), name)
    x = layers.AveragePooling2D((-(-x.shape[1] // _SEGMENTS), 1), padding="same")(layers.SpatialDropout2D(0.1)(x))
    x = layers.Dropout(0.2)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(_DIMENSIONS, name="embedding")(x), name="encoder")


def _fit(
    head: keras.Model, trunk: Trunk, maps: np.ndarray, classes: np.ndarray, pushed: np.ndarray, epochs: int, seed: int
) -> None:
    """Train the head on `maps`, shape (copies, n, ...), of words of number `classes`; other sound is `pushed` away."""
    import tensorflow as tf

    n_words, rng = int(classes.max()) + 1, np.random.default_rng(seed)
    centres = tf.Variable(tf.random.stateless_normal((_DIMENSIONS, n_words), (seed, 0)), name="centres")
    variables = [*head.trainable_variables, centres]
    optimizer = keras.optimizers.AdamW(_RATE, weight_decay=_DECAY)

    @tf.function
    def step(values, numbers):
        with tf.GradientTape() as tape:
            cosines = tf.nn.l2_normalize(head(values, training=True), 1) @ tf.nn.l2_normalize(centres, 0)
            said, other = cosines[: len(numbers)], cosines[len(numbers) :]
            one = tf.one_hot(numbers, n_words)
            target = one * (1 - _SMOOTHING) + _SMOOTHING / n_words
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(target, _SCALE * (said - _MARGIN * one)))
            loss += _PUSH * tf.reduce_mean(tf.nn.relu(tf.reduce_max(other, axis=1) - _APART))
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    batch = min(_BATCH, len(classes))
    steps = len(classes) // batch
    bar = tqdm(range(epochs), desc="epochs", unit="epoch")
    for epoch in bar:
        order, losses = rng.permutation(len(classes)), []
        for i in range(steps):
            share = (epoch + i / steps) / epochs
            optimizer.learning_rate = _RATE * min(1.0, 20 * share + 0.05) * (0.5 + 0.5 * np.cos(np.pi * share)) + 1e-5
            rows = order[i * batch : (i + 1) * batch]
            words = maps[rng.integers(len(maps), size=len(rows)), rows]
            values = np.concatenate([words, pushed[rng.integers(len(pushed), size=_PUSHED)]])
            losses.append(float(step(tf.constant(trunk.real(values)), tf.constant(classes[rows]))))
        bar.set_postfix(loss=f"{np.mean(losses):.3f}")


def train_encoder(
    model: Model, examples: Examples, output: Path, *, copies: int, epochs: int, seed: int, about: dict[str, Any]
) -> Encoder:
    """Train an encoder for `model`, and write it to `output`.

    Parameters
    ----------
    model : Model
        A model of clips, in INT8.
    examples : Examples
    output : path
    copies : int
        Variations of each clip.
    epochs : int
    seed : int
    about : dict
        JSON-ready description of how it was made.

    Returns
    -------
    Encoder

    Raises
    ------
    TrainingError
        If the model cannot have an encoder.
    """
    keras.utils.set_random_seed(seed)
    trunk, rng = Trunk(model), np.random.default_rng(seed)
    maps = _varied(examples, trunk, copies, rng)
    windows = trunk.windows(examples.speech)
    head = build_head(trunk.shape)
    classes = np.unique(examples.words, return_inverse=True)[1]
    _fit(head, trunk, maps, classes, np.concatenate(windows[::2]), epochs, seed)
    return write_encoder(trunk, head, maps[0], examples.words, windows, output, about=about, seed=seed)


def write_encoder(
    trunk: Trunk,
    head: keras.Model,
    maps: np.ndarray,
    labels: np.ndarray,
    windows: Sequence[np.ndarray],
    output: Path,
    *,
    about: dict[str, Any],
    seed: int,
) -> Encoder:
    """Quantise a head, measure it, and write the encoder's file.

    Parameters
    ----------
    trunk : Trunk
    head : keras.Model
        From :func:`build_head`.
    maps : numpy.ndarray, shape (n, steps, 1, channels), int8
        Of single words; see :meth:`Trunk.maps`.
    labels : numpy.ndarray, shape (n,)
        The words.
    windows : sequence of numpy.ndarray
        Of recordings of running speech; see :meth:`Trunk.windows`. Every other one measures false accepts.
    output : path
    about : dict
        JSON-ready description of how the head was made.
    seed : int
    """
    model, rng = trunk.model, np.random.default_rng(seed)
    known, heard = windows[::2], windows[1::2]
    sample = maps[rng.choice(len(maps), min(400, len(maps)), replace=False)]
    # Without negative outputs, all runtimes round alike. The mean embedding, which is taken off, has the shift, too.
    dense = head.layers[-1]
    kernel, bias = dense.get_weights()
    dense.set_weights([kernel, bias - min(0.0, float(head.predict(trunk.real(maps), verbose=0).min()))])
    flatbuffer = to_int8(head, trunk.real(sample))
    hear = Head(flatbuffer, model.flat.tensors[trunk.tap], str(output))
    words, speech = (np.stack([hear(one) for one in part]) for part in (maps, np.concatenate(known)))
    mean = words.mean(axis=0)  # without their common part, embeddings are farther apart
    words, speech = normalised(words - mean), normalised(speech - mean)
    rows = np.sort(rng.choice(len(words), min(_BANK, len(words)), replace=False))
    known_words, known_speech = (quantize(127 * part, 1.0, 0) for part in (words[rows], some(speech, _BANK, rng)))
    known_labels = [str(label).casefold() for label in labels[rows]]
    rivals = Rivals(normalised(known_words), known_labels, normalised(known_speech))
    streams = [normalised(np.stack([hear(one) for one in part]) - mean) for part in heard]
    own = {label: words[labels == label] for label in model.labels if is_keyword(label) and label in labels}
    facts = {
        "format": FORMAT,
        "tflite_sha256": sha256_hex(model.flat.data),
        "tap": trunk.tap,
        "own": list(own),
        "words": known_labels,
        "points": points(words, labels, streams, rivals, model, rng),
        "made": about,
    }
    content = {
        "about": np.array(json.dumps(facts)),
        "head": np.frombuffer(flatbuffer, np.uint8),
        "mean": mean,
        "words": known_words,
        "speech": known_speech,
        "own": normalised(np.array([found.mean(axis=0) for found in own.values()]).reshape(len(own), _DIMENSIONS)),
    }
    write_atomically(output, lambda path: np.savez(path, **content))
    return Encoder(model, output)

"""Mixed precision: most layers compute in bfloat16, which has float32's range. All weights stay float32."""

from __future__ import annotations

import keras

__all__ = ["accelerated", "copied", "is_mixed"]

_MIXED = "mixed_bfloat16"


def copied(model: keras.Model, *, mixed: bool = False) -> keras.Model:
    """A copy of a network with its weights, in one precision.

    Layers up to the first that has weights, and from the last that has weights on, compute in float32. The first one
    takes levels of up to 255, and the last one gives the scores; eight bits are too few for both.

    Parameters
    ----------
    model : keras.Model
    mixed : bool
        Let the other layers compute in bfloat16.
    """
    weighted = [i for i, layer in enumerate(model.layers) if layer.weights]
    inner = {id(layer) for layer in model.layers[weighted[0] + 1 : weighted[-1]]} if mixed and weighted else set()

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if id(layer) in inner:
            config["dtype"] = _MIXED
        elif layer.dtype_policy.name == _MIXED:
            config["dtype"] = "float32"
        return type(layer).from_config(config)

    made = keras.models.clone_model(model, clone_function=copy)
    made.set_weights(model.get_weights())
    return made


def is_mixed(model: keras.Model) -> bool:
    """Whether some layers compute in bfloat16."""
    return any(layer.dtype_policy.name == _MIXED for layer in model.layers)


def accelerated() -> bool:
    """Whether Keras computes on a GPU or another accelerator here."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.default_backend() != "cpu"
    if backend == "torch":
        import torch

        return torch.cuda.is_available()
    import tensorflow

    return bool(tensorflow.config.list_physical_devices("GPU"))

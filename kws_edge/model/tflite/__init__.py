"""TFLite files: what a model is, and whether a runtime can be trusted with it.

The runtimes take a file at its word: one wrong byte can end the process. So :mod:`~kws_edge.model.tflite.flatbuffer`
reads every table within bounds, :class:`FlatModel` visits all that a runtime visits, and :func:`verify` checks what
each operator will do with its tensors.
"""

from kws_edge.model.tflite.flat_model import FlatModel, Graph, Operator, Tensor
from kws_edge.model.tflite.verify import verify

__all__ = ["FlatModel", "Graph", "Operator", "Tensor", "verify"]

"""TFLite files: read the structure of a model, and check whether a runtime can run it safely.

The runtimes trust a file, and one wrong byte can end the process. So :mod:`~kws_edge.model.tflite.flatbuffer` reads
every table within bounds. :class:`FlatModel` visits everything that a runtime visits. :func:`verify` checks what each
operator will do with its tensors.
"""

from kws_edge.model.tflite.flat_model import FlatModel, Graph, Operator, Tensor
from kws_edge.model.tflite.verify import verify

__all__ = ["FlatModel", "Graph", "Operator", "Tensor", "verify"]

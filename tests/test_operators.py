"""Each operator by itself: what it makes of its inputs, as the runtime computes it, and the bounds of what is taken."""

import contextlib
import random
from dataclasses import replace

import pytest

from kws_edge import ModelError
from kws_edge.model.tflite import FlatModel, verify
from tests.graphs import Value, constant, graph_of

pytestmark = pytest.mark.host

litert = pytest.importorskip("ai_edge_litert.interpreter", exc_type=ImportError, reason="LiteRT is not installed here")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated", exc_type=ImportError)


def made_by_runtime(data: bytes) -> list[tuple[int, ...]]:
    """Shapes of the outputs as the runtime's kernels compute them; what the file says of them does not count."""
    resolver = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = litert.Interpreter(model_content=data, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    details = sorted(interpreter.get_output_details(), key=lambda detail: detail["index"])
    with contextlib.suppress(ValueError):  # of outputs whose shape follows from values
        interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]).shape for detail in details]


def verdict(data: bytes) -> list[str]:
    return verify(FlatModel(data, "m.tflite"))


# Random forms of each operator: its inputs, the type of its outputs and how many they are, its options.


def conv(r):
    kh, kw, channels, depth = r.randint(1, 3), r.randint(1, 4), r.randint(1, 3), r.randint(1, 3)
    values, filters = Value((1, r.randint(9, 14), r.randint(9, 14), depth)), Value((channels, kh, kw, depth), data=0)
    options = {"padding": r.randint(0, 1), "fusedActivationFunction": r.randint(0, 3)}
    options |= {"strideW": r.randint(1, 3), "strideH": r.randint(1, 3)}
    options |= {"dilationWFactor": r.randint(1, 2), "dilationHFactor": r.randint(1, 2)}
    return [values, filters, Value((channels,), data=0)], "float32", 1, "Conv2DOptions", options


def depthwise(r):
    kh, kw, depth, each = r.randint(1, 3), r.randint(1, 4), r.randint(1, 3), r.randint(1, 3)
    values, filters = Value((1, r.randint(9, 14), r.randint(9, 14), depth)), Value((1, kh, kw, depth * each), data=0)
    options = {"padding": r.randint(0, 1), "fusedActivationFunction": r.randint(0, 3), "depthMultiplier": each}
    options |= {"strideW": r.randint(1, 3), "strideH": r.randint(1, 3)}
    options |= {"dilationWFactor": r.randint(1, 2), "dilationHFactor": r.randint(1, 2)}
    return [values, filters, Value((depth * each,), data=0)], "float32", 1, "DepthwiseConv2DOptions", options


def pool(r):
    dtype = r.choice(["float32", "int8", "uint8"])
    values = Value((r.randint(1, 2), r.randint(6, 9), r.randint(6, 9), r.randint(1, 3)), dtype)
    options = {"padding": r.randint(0, 1), "fusedActivationFunction": r.randint(0, 3)}
    options |= {"filterWidth": r.randint(1, 5), "filterHeight": r.randint(1, 5)}
    options |= {"strideW": r.randint(1, 3), "strideH": r.randint(1, 3)}
    return [values], dtype, 1, "Pool2DOptions", options


def dense(r):
    units, depth, keep = r.randint(1, 5), r.randint(1, 5), r.random() < 0.5
    values, weights = Value((r.randint(1, 3), r.randint(1, 3), depth)), Value((units, depth), data=0)
    inputs = [values, weights] + [Value((units,), data=0)] * r.randint(0, 1)
    options = {"keepNumDims": keep, "fusedActivationFunction": r.randint(0, 3)}
    return inputs, "float32", 1, "FullyConnectedOptions", options


def svdf(r):
    batch, depth, units, rank, memory = (r.randint(1, 4) for _ in range(5))
    filters = units * rank
    inputs = [Value((batch, depth)), Value((filters, depth), data=0), Value((filters, memory), data=0)]
    inputs += [Value((units,), data=0), Value((batch, filters * memory), variable=True)]
    return inputs, "float32", 1, "SVDFOptions", {"rank": rank, "fusedActivationFunction": r.randint(0, 3)}


def some_shape(r, least=1):
    return tuple(r.randint(1, 4) for _ in range(r.randint(least, 4)))


def elementwise(r):
    dtype = r.choice(["float32", "int8", "uint8"])
    scaled = {"scales": (1 / 256,), "zero_points": (-128 if dtype == "int8" else 0,)} if dtype != "float32" else {}
    return [Value(some_shape(r), dtype)], Value((), dtype, **scaled), 1, None, {}


def leaky(r):
    return [Value(some_shape(r))], "float32", 1, "LeakyReluOptions", {"alpha": 0.25}


def softmax(r):
    return [Value(some_shape(r))], "float32", 1, "SoftmaxOptions", {"beta": 1.0}


def binary(kind):
    def form(r):
        shape = some_shape(r)
        other = tuple(r.choice([1, n]) for n in shape)[r.randint(0, len(shape) - 1) :]
        pair = [Value(shape), Value(other)]
        r.shuffle(pair)
        options = {} if kind == "MaximumMinimumOptions" else {"fusedActivationFunction": r.randint(0, 3)}
        return pair, "float32", 1, kind, options

    return form


def requantise(to):
    def form(r):
        return [Value(some_shape(r), "float32" if to == "int8" else "int8")], to, 1, None, {}

    return form


def concatenation(r):
    shape = list(some_shape(r))
    axis = r.randrange(-len(shape), len(shape))
    shapes = [[r.randint(1, 4) if i == axis % len(shape) else n for i, n in enumerate(shape)] for _ in range(3)]
    return [Value(tuple(s)) for s in shapes], "float32", 1, "ConcatenationOptions", {"axis": axis}


def pack(r):
    shape, n = some_shape(r)[:3], r.randint(1, 3)
    options = {"valuesCount": n, "axis": r.randint(-len(shape) - 1, len(shape))}
    return [Value(shape)] * n, "float32", 1, "PackOptions", options


def reshape(r):
    shape = some_shape(r)
    wanted = [-1, *r.sample(shape, r.randint(0, len(shape) - 1))]
    r.shuffle(wanted)
    if r.random() < 0.5:
        return [Value(shape), constant(wanted)], "float32", 1, "ReshapeOptions", {"newShape": [5]}
    return [Value(shape)], "float32", 1, "ReshapeOptions", {"newShape": wanted}


def squeeze(r):
    shape = tuple(r.choice([1, 1, 2, 3]) for _ in range(4))
    ones = [i for i, n in enumerate(shape) if n == 1]
    given = [i - r.choice([0, 4]) for i in r.sample(ones, r.randint(0, len(ones)))]
    return [Value(shape)], "float32", 1, "SqueezeOptions", {"squeezeDims": given}


def expand_dims(r):
    shape = some_shape(r)[:3]
    axis = constant([r.randint(-len(shape) - 1, len(shape))], r.choice(["int32", "int64"]))
    return [Value(shape), axis], "float32", 1, None, {}


def pad(r):
    shape = some_shape(r)
    return [Value(shape), constant([[r.randint(0, 3), r.randint(0, 3)] for _ in shape])], "float32", 1, None, {}


def reduction(r):
    shape = some_shape(r, least=2)
    axes = [axis - r.choice([0, len(shape)]) for axis in r.sample(range(len(shape)), r.randint(1, len(shape)))]
    return [Value(shape), constant(axes)], "float32", 1, "ReducerOptions", {"keepDims": r.random() < 0.5}


def strided_slice(r):
    shape = tuple(r.randint(3, 6) for _ in range(3))
    n = r.randint(1, 3)
    begins = [r.randint(-2, 1) for _ in range(n)]
    ends = [size + r.randint(-1, 2) for size in shape[:n]]
    strides = [r.randint(1, 3) for _ in range(n)]
    shrink = r.randint(0, 2**n - 1)
    masks = {"beginMask": r.randint(0, 7) & ~shrink, "endMask": r.randint(0, 7), "shrinkAxisMask": shrink}
    for i in range(n):
        if shrink >> i & 1:  # what the other numbers of such a dimension are does not count
            strides[i] = 1
            ends[i] = begins[i] + 1 if begins[i] != -1 else shape[i]
            masks["endMask"] &= ~(1 << i)
        elif begins[i] < 0:
            ends[i] = shape[i]
    return [Value(shape), *map(constant, (begins, ends, strides))], "float32", 1, "StridedSliceOptions", masks


def split(r):
    shape, n = list(some_shape(r)), r.randint(1, 3)
    axis = r.randrange(-len(shape), len(shape))
    shape[axis] = n * r.randint(1, 3)
    return [constant([axis]), Value(tuple(shape))], "float32", n, "SplitOptions", {"numSplits": n}


def split_v(r):
    shape, n = list(some_shape(r)), r.randint(2, 3)
    axis = r.randrange(-len(shape), len(shape))
    sizes = [r.randint(1, 3) for _ in range(n)]
    shape[axis] = sum(sizes)
    if r.random() < 0.5:
        sizes[r.randrange(n)] = -1
    return [Value(tuple(shape)), constant(sizes), constant([axis])], "float32", n, "SplitVOptions", {"numSplits": n}


def transpose(r):
    shape = some_shape(r)
    return [Value(shape), constant(r.sample(range(len(shape)), len(shape)))], "float32", 1, None, {}


def shape_of(r):
    dtype = r.choice(["int32", "int64"])
    return [Value(some_shape(r))], dtype, 1, "ShapeOptions", {"outType": getattr(schema.TensorType, dtype.upper())}


FORMS = {
    "CONV_2D": conv, "DEPTHWISE_CONV_2D": depthwise, "AVERAGE_POOL_2D": pool, "MAX_POOL_2D": pool, "SVDF": svdf,
    "FULLY_CONNECTED": dense, "SOFTMAX": softmax, "LEAKY_RELU": leaky, "RELU": elementwise, "LOGISTIC": elementwise,
    "ADD": binary("AddOptions"), "SUB": binary("SubOptions"), "MUL": binary("MulOptions"),
    "MAXIMUM": binary("MaximumMinimumOptions"), "QUANTIZE": requantise("int8"), "DEQUANTIZE": requantise("float32"),
    "CONCATENATION": concatenation, "PACK": pack, "RESHAPE": reshape, "SQUEEZE": squeeze, "EXPAND_DIMS": expand_dims,
    "PAD": pad, "MEAN": reduction, "SUM": reduction, "REDUCE_MAX": reduction, "STRIDED_SLICE": strided_slice,
    "SPLIT": split, "SPLIT_V": split_v, "TRANSPOSE": transpose, "SHAPE": shape_of,
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_makes_what_the_runtime_makes(name):
    """The shape that the kernel computes is taken, and no other."""
    r, shapes = random.Random(name), set()
    for _ in range(12):
        inputs, made, n, kind, options = FORMS[name](r)
        made = made if isinstance(made, Value) else Value((), made)
        blank = graph_of(schema, name, inputs, [replace(made, shape=(1,))] * n, kind, **options)
        found = made_by_runtime(blank)
        assert len(found) == n
        outputs = [replace(made, shape=shape) for shape in found]
        assert verdict(graph_of(schema, name, inputs, outputs, kind, **options)) == [], (inputs, found, options)
        shapes.add(found[0])
        for i, shape in enumerate(found):
            wrong = [(*shape, 1)] * (len(shape) < 4) + [
                (*shape[:d], shape[d] + 1, *shape[d + 1 :]) for d in range(len(shape))
            ]
            for other in wrong:
                others = [*outputs[:i], replace(made, shape=other), *outputs[i + 1 :]]
                with pytest.raises(ModelError, match=r"works on|makes"):
                    verdict(graph_of(schema, name, inputs, others, kind, **options))
    assert len(shapes) > 3

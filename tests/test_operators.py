"""Each operator by itself: its output's shape, as the runtime computes it, and the limits of valid inputs."""

import contextlib
import random
from dataclasses import replace

import numpy as np
import pytest

from kws_edge import ModelError
from kws_edge.model.tflite import FlatModel, verify
from tests.graphs import Value, constant, graph_of

pytestmark = pytest.mark.host

litert = pytest.importorskip("ai_edge_litert.interpreter", exc_type=ImportError, reason="LiteRT is not installed here")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated", exc_type=ImportError)


def made_by_runtime(data: bytes) -> list[tuple[int, ...]]:
    """Shapes of the outputs as the runtime's kernels compute them. The shapes in the file do not count."""
    resolver = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = litert.Interpreter(model_content=data, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    details = sorted(interpreter.get_output_details(), key=lambda detail: detail["index"])
    with contextlib.suppress(ValueError):  # raised for outputs whose shape depends on values
        interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]).shape for detail in details]


def verdict(data: bytes) -> list[str]:
    return verify(FlatModel(data, "m.tflite"))


# Random forms of each operator: its inputs, the type and number of its outputs, and its options.


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
        if shrink >> i & 1:  # other numbers of such a dimension do not count
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
    "MAXIMUM": binary("MaximumMinimumOptions"), "MINIMUM": binary("MaximumMinimumOptions"),
    "QUANTIZE": requantise("int8"), "DEQUANTIZE": requantise("float32"),
    "CONCATENATION": concatenation, "PACK": pack, "RESHAPE": reshape, "SQUEEZE": squeeze, "EXPAND_DIMS": expand_dims,
    "PAD": pad, "MEAN": reduction, "SUM": reduction, "REDUCE_MAX": reduction, "STRIDED_SLICE": strided_slice,
    "SPLIT": split, "SPLIT_V": split_v, "TRANSPOSE": transpose, "SHAPE": shape_of,
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_makes_what_the_runtime_makes(name):
    """Only the shape that the kernel computes is accepted."""
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


def judged(name, inputs, output, kind=None, **options) -> str:
    """The message about a model of one operator. It is empty if the model is proven harmless."""
    outputs = output if isinstance(output, list) else [output]
    try:
        return "; ".join(verdict(graph_of(schema, name, inputs, outputs, kind, **options)))
    except ModelError as error:
        return str(error)


def f(*shape, data=None, **more):
    return Value(shape, "float32", data, **more)


def q(*shape, scale=1.0, data=None, **more):
    return Value(shape, "int8", data, (scale,) if isinstance(scale, float) else scale, **more)


IMAGE, FILTERS, BIAS = f(1, 8, 8, 2), f(3, 1, 1, 2, data=0), f(3, data=0)
BIASES = Value((3,), "int32", 0)
CONV = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}


def conv_of(inputs=(IMAGE, FILTERS, BIAS), output=f(1, 8, 8, 3), **options):  # noqa: B008
    return judged("CONV_2D", list(inputs), output, "Conv2DOptions", **{**CONV, **options})


def depthwise_of(**options):
    return judged(
        "DEPTHWISE_CONV_2D", [IMAGE, f(1, 1, 1, 2, data=0), f(2, data=0)], options.pop("output", f(1, 8, 8, 2)),
        "DepthwiseConv2DOptions", **{"depthMultiplier": 1, **CONV, **options},
    )  # fmt: skip


def pool_of(output=f(1, 8, 8, 2), values=IMAGE, **options):  # noqa: B008
    sizes = {"strideW": 1, "strideH": 1, "filterWidth": 1, "filterHeight": 1}
    return judged("MAX_POOL_2D", [values], output, "Pool2DOptions", **{**sizes, **options})


def dense_of(values=f(2, 4), weights=f(3, 4, data=0), bias=BIAS, output=f(2, 3), **options):  # noqa: B008
    return judged("FULLY_CONNECTED", [values, weights, bias], output, "FullyConnectedOptions", **options)


@pytest.mark.parametrize("conv", [conv_of, depthwise_of])
@pytest.mark.parametrize("axis", ["W", "H"])
def test_strides_and_dilations_have_a_range(conv, axis):
    channels = 3 if conv is conv_of else 2
    far = f(1, *((8, 1) if axis == "W" else (1, 8)), channels)
    assert conv(**{f"stride{axis}": 4096, "output": far}) == ""
    assert conv(**{f"dilation{axis}Factor": 4096}) == ""
    for value in (0, -1, 4097):
        assert f"has a stride of {value};" in conv(**{f"stride{axis}": value, "output": far})
        assert f"has a dilation of {value};" in conv(**{f"dilation{axis}Factor": value})


@pytest.mark.parametrize("side", ["filterWidth", "filterHeight", "strideW", "strideH"])
def test_windows_of_pools_have_a_range(side):
    assert pool_of(**{side: 1}) == ""
    for value in (0, 4097):
        assert f"of {value};" in pool_of(**{side: value})


def test_windows_lie_in_what_they_slide_over():
    valid = {"padding": 1, "filterWidth": 8, "filterHeight": 8}
    assert pool_of(f(1, 1, 1, 2), **valid) == ""
    assert "has a window of 9 on 8 values" in pool_of(f(1, 1, 1, 2), **{**valid, "filterHeight": 9})
    assert "has a window of 9 on 8 values" in pool_of(f(1, 1, 1, 2), **{**valid, "filterWidth": 9})
    for padding in (2, -1):
        assert f"has a padding of kind {padding};" in pool_of(padding=padding)
        assert f"has a padding of kind {padding};" in conv_of(padding=padding)


def binary_of(name, kind):
    return lambda **options: judged(name, [f(2), f(2)], f(2), kind, **options)


@pytest.mark.parametrize(
    "form",
    [
        conv_of, depthwise_of, pool_of, dense_of, binary_of("ADD", "AddOptions"), binary_of("SUB", "SubOptions"),
        binary_of("MUL", "MulOptions"),
    ],
)  # fmt: skip
def test_fused_activations(form):
    """Every kernel knows the activations up to RELU6. The schema has two more."""
    for number, said in ((0, ""), (1, ""), (2, ""), (3, ""), (4, "rare kind"), (5, "rare kind"), (6, "number 6")):
        found = form(fusedActivationFunction=number)
        assert found == "" if not said else said in found
    assert "has a fused activation of number -1;" in form(fusedActivationFunction=-1)


def softmax_of(beta, values=f(3), output=f(3)):  # noqa: B008
    return judged("SOFTMAX", [values], output, "SoftmaxOptions", beta=beta)


def leaky_of(alpha):
    return judged("LEAKY_RELU", [f(2)], f(2), "LeakyReluOptions", alpha=alpha)


def joined(values, output, **options):
    return judged("CONCATENATION", values, output, "ConcatenationOptions", **options)


def product_of(*scales):
    return judged("MUL", [q(2, scale=scale) for scale in scales], q(2), "MulOptions")


def per_channel(**changes):
    return conv_of((QUANTISED[0], replace(CHANNELS, **changes), BIASES), q(1, 8, 8, 3))


CHANNELS = q(3, 1, 1, 2, scale=(1.0, 2.0, 3.0), data=0, zero_points=(0, 0, 0))
QUANTISED = (q(1, 8, 8, 2), q(3, 1, 1, 2, data=0), BIASES)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (lambda: conv_of((IMAGE, f(3, 1, 1, 1, data=0), BIAS)), "has filters [3, 1, 1, 1] for 2 channels"),
        (lambda: conv_of((IMAGE, f(4, 1, 1, 1, data=0), f(4, data=0)), f(1, 8, 8, 4)), "has groups of channels"),
        (lambda: conv_of((IMAGE, f(3, 1, 1, 3, data=0), BIAS)), "has filters [3, 1, 1, 3] for 2 channels"),
        (lambda: conv_of((IMAGE, FILTERS)), "has no bias"),
        (lambda: conv_of((IMAGE, FILTERS, f(2, data=0))), "has a bias of [2] for 3 channels"),
        (lambda: conv_of((IMAGE, f(3, 1, 1, 2), BIAS)), "computes its input 1 as it runs"),
        (lambda: conv_of((IMAGE, FILTERS, f(3))), "computes its input 2 as it runs"),
        (lambda: conv_of((f(8, 8, 2), FILTERS, BIAS)), "works on 4 dimensions, not on [8, 8, 2]"),
        (lambda: conv_of((IMAGE, FILTERS, BIAS), f(8, 8, 3)), "works on 4 dimensions, not on [8, 8, 3]"),
        (lambda: conv_of(QUANTISED, q(1, 8, 8, 3)), ""),
        (lambda: per_channel(), ""),
        (lambda: conv_of((IMAGE, CHANNELS, BIAS)), ""),  # hybrid
        (lambda: per_channel(axis=3), "3 scales along dimension 3"),
        (lambda: per_channel(scales=(1.0, 1.0), zero_points=(0, 0)), "has 2 scales along dimension 0 for 3 channels"),
        (lambda: per_channel(zero_points=(0, 1, 0)), "a zero point"),
        (lambda: conv_of((QUANTISED[0], CHANNELS, BIAS), q(1, 8, 8, 3)), "works on int8, int8, float32, int8"),
        (lambda: conv_of((*QUANTISED[:2], BIASES), f(1, 8, 8, 3)), "works on int8, int8, int32, float32"),
        (lambda: conv_of(QUANTISED, q(1, 8, 8, 3, scale=0.00390631)), ""),
        (lambda: conv_of(QUANTISED, q(1, 8, 8, 3, scale=0.00390625)), "goes from scales of 1 and 1 to 0.00390625"),
        (lambda: conv_of((q(1, 8, 8, 2, scale=()), *QUANTISED[1:]), q(1, 8, 8, 3)), "works on values without a scale"),
        (lambda: depthwise_of(depthMultiplier=2), "2 for each of 2 channels"),
        (lambda: pool_of(q(1, 8, 8, 2, scale=2.0), q(1, 8, 8, 2)), "changes the scale"),
        (lambda: pool_of(q(1, 8, 8, 2, zero_points=(1,)), q(1, 8, 8, 2)), "changes the scale"),
        (lambda: dense_of(weightsFormat=1), "has shuffled weights"),
        (lambda: dense_of(f(2, 3)), "has weights [3, 4] for [2, 3]"),
        (lambda: dense_of(f(4, 2), output=f(4, 3), keepNumDims=True), "has weights [3, 4] for [4, 2]"),
        (lambda: dense_of(bias=None), ""),
        (lambda: leaky_of(256.0), ""),
        (lambda: leaky_of(-257.0), "has a slope of -257"),
        (lambda: leaky_of(257.0), "has a slope of 257"),
        (lambda: judged("RELU", [q(2)], q(2, scale=2.0**-16)), ""),
        (lambda: judged("RELU", [q(2)], q(2, scale=2.0**-17)), "goes from a scale of 7.62939e-06 to one of 1"),
        (lambda: judged("RELU", [q(2)], q(2, scale=())), "works on int8 with 0 scales"),
        (lambda: judged("RELU", [f(2)], q(2)), "goes from float32 to int8"),
        (lambda: judged("RELU", [f(1, 1, 1, 1, 2)], f(1, 1, 1, 1, 2)), "works on 5 dimensions"),
        (lambda: judged("RELU", [f(2, data=0)], f(2)), "no input or no output"),
        (lambda: softmax_of(2.0**-8), ""),
        (lambda: softmax_of(2.0**-9), "has a beta of 0.00195312"),
        (lambda: softmax_of(256.0), ""),
        (lambda: softmax_of(257.0), "has a beta of 257"),
        (lambda: softmax_of(0.0), "cannot be run: operator 0 (SOFTMAX) has a beta"),
        (lambda: softmax_of(1.0, f(), f()), "works on a single number"),
        (lambda: softmax_of(0.5, q(3, scale=2.0**-15), q(3)), ""),
        (lambda: softmax_of(0.25, q(3, scale=2.0**-15), q(3)), "works on a scale of 3.05176e-05"),
        (lambda: softmax_of(2.0, q(3, scale=256.0), q(3)), "works on a scale of 256"),
        (lambda: softmax_of(1.0, q(3), f(3)), "works on int8, float32"),
        (lambda: judged("ADD", [f(2, 3), f(3, 2)], f(3, 3), "AddOptions"), "joins [2, 3] and [3, 2]"),
        (lambda: product_of(16.0, 16.0), "goes from scales of 16 and 16 to 1"),
        (lambda: product_of(16.0, 15.0), ""),
        (lambda: judged("QUANTIZE", [f(2)], f(2)), "goes from float32 to float32"),
        (lambda: judged("DEQUANTIZE", [q(2)], q(2)), "goes from int8 to int8"),
        (lambda: judged("QUANTIZE", [q(2)], Value((2,), "uint8")), ""),
        (lambda: joined([f(2), f(3)], f(5), fusedActivationFunction=1), "fused activation"),
        (lambda: joined([f(2), f(3)], f(5), axis=1), "has the axis [1] for 1 dimensions"),
        (lambda: joined([f(2), f(3)], f(5), axis=-2), "has the axis [-2] for 1 dimensions"),
        (lambda: joined([f(2, 1), f(2, 2, 1)], f(4, 1)), "joins [2, 1], [2, 2, 1]"),
        (lambda: joined([f(2, 1), f(2, 2)], f(4, 1)), "joins [2, 1], [2, 2]"),
        (lambda: joined([q(2), q(3, scale=2.0)], q(5)), "changes the scale"),
        (lambda: judged("PACK", [f(2), f(2)], f(2, 2), "PackOptions", valuesCount=3), "joins 3 of 2 inputs"),
        (lambda: judged("PACK", [f(2), f(3)], f(2, 2), "PackOptions", valuesCount=2), "joins 2 of 2 inputs"),
    ],
)  # fmt: skip
def test_forms_that_are_taken_doubted_or_refused(found, said):
    text = found()
    assert text == "" if not said else said in text, text


RESHAPED = {
    (-1, -1): "makes [-1, -1] of [2, 6]", (0, 12): "makes [0, 12] of", (-2, 6): "makes [-2, 6] of",
    (5, -1): "makes [5, -1] of", (2, 5): "makes [2, 5] of", (12,): "", (-1, 4): "", (3, 4): "",
}  # fmt: skip


@pytest.mark.parametrize("wanted", RESHAPED)
def test_shapes_that_are_made(wanted):
    known = int(np.prod([n for n in wanted if n > 0]))
    output = f(*(n if n > 0 else 12 // max(1, known) for n in wanted))
    for found in (
        judged("RESHAPE", [f(2, 6), constant(wanted)], output),
        judged("RESHAPE", [f(2, 6)], output, "ReshapeOptions", newShape=list(wanted)),
    ):
        assert found == "" if not RESHAPED[wanted] else RESHAPED[wanted] in found


@pytest.mark.parametrize(
    ("name", "inputs", "output", "options", "said"),
    [
        ("RESHAPE", [f(2)], f(2), (), "lacks a shape"),
        ("RESHAPE", [f(2), constant([2], "int64")], f(2), (), "has int64 for a shape"),
        ("RESHAPE", [f(2), constant([[2]])], f(2), (), "works on 1 dimensions"),
        ("RESHAPE", [f(2), Value((1,), "int32")], f(2), (), "works on sizes that are computed as it runs"),
        ("SQUEEZE", [f(1, 2)], f(2), ("SqueezeOptions", {"squeezeDims": [1]}), "drops dimensions [1] of [1, 2]"),
        ("SQUEEZE", [f(1, 2)], f(2), ("SqueezeOptions", {"squeezeDims": [2]}), "has the axis (2,) for 2 dimensions"),
        ("EXPAND_DIMS", [f(2), constant([0, 1])], f(1, 2), (), "has 2 axes"),
        ("EXPAND_DIMS", [f(2), constant([0], "int8")], f(1, 2), (), "has int8 for whole numbers"),
        ("EXPAND_DIMS", [f(2), constant([0] * 65)], f(1, 2), (), "has 65 numbers where a few"),
        ("EXPAND_DIMS", [f(2), constant([0] * 64)], f(1, 2), (), "has 64 axes"),
        ("PAD", [f(2), constant([[-1, 1]])], f(2), (), "pads by [-1, 1]"),
        ("PAD", [f(2), constant([[0, 2**20]])], f(2 + 2**20), (), ""),
        ("PAD", [f(2), constant([[0, 2**20 + 1]])], f(3 + 2**20), (), "pads by [0, 1048577]"),
        ("PAD", [f(2), constant([[0, 0]] * 2)], f(2), (), "has a padding of [2, 2] for [2]"),
        ("PAD", [q(2), constant([[0, 0]])], q(2, scale=2.0), (), "changes the scale"),
        ("MEAN", [f(2, 3), constant([2])], f(2), ("ReducerOptions", {}), "has the axis (2,) for 2 dimensions"),
        ("MEAN", [f(2, 3), constant([1], "int64")], f(2), ("ReducerOptions", {}), "has axes of int64 [1]"),
        ("MEAN", [f(2, 3), constant([[1]])], f(2), ("ReducerOptions", {}), "has axes of int32 [1, 1]"),
        ("MEAN", [f(), constant([0])], f(), ("ReducerOptions", {}), "works on a single number"),
        ("MEAN", [q(2, 3), constant([1])], q(2, scale=2.0), ("ReducerOptions", {}), ""),
        ("REDUCE_MAX", [q(2, 3), constant([1])], q(2, scale=2.0), ("ReducerOptions", {}), "changes the scale"),
        ("TRANSPOSE", [f(2, 3), constant([0, 0])], f(2, 3), (), "has the order [0, 0] for [2, 3]"),
        ("TRANSPOSE", [f(2, 3), constant([1, 0], "int64")], f(3, 2), (), "has the order [1, 0] for [2, 3]"),
        ("SHAPE", [f(2, 3)], Value((2,), "int64"), ("ShapeOptions", {"outType": 2}), "makes int64"),
        ("SHAPE", [f(2, 3)], Value((2,), "int32"), ("ShapeOptions", {"outType": 4}), "makes int32"),
        ("SHAPE", [f(2, 3)], f(2), ("ShapeOptions", {"outType": 0}), "makes float32"),
        ("SPLIT", [constant([0]), f(4)], [f(2)] * 2, ("SplitOptions", {"numSplits": 3}), "makes 3 parts, but has 2"),
        ("SPLIT", [constant([0]), f(5)], [f(2)] * 2, ("SplitOptions", {"numSplits": 2}), "parts of [2, 2] of 5 values"),
        ("SPLIT", [constant([0]), q(4)], [q(2), q(2, scale=2.0)], ("SplitOptions", {"numSplits": 2}), "the scale"),
    ],
)  # fmt: skip
def test_operators_on_shapes(name, inputs, output, options, said):
    kind, values = options or (None, {})
    found = judged(name, inputs, output, kind, **values)
    assert found == "" if not said else said in found, found


@pytest.mark.parametrize(
    ("n", "sizes", "parts", "said"),
    [
        (4, [1, 3], [1, 3], ""),
        (4, [1, -1], [1, 3], ""),
        (4, [1, 2], [1, 2], "makes parts of [1, 2] of 4 values"),
        (3, [0, 3], [1, 3], "makes parts of [0, 3] of 3 values"),
        (4, [-1, -1], [1, 3], "makes parts of [-1, -1] of 4 values"),
        (4, [4], [1, 3], "makes parts of [4] of 4 values"),
    ],
)
def test_parts_of_given_sizes(n, sizes, parts, said):
    inputs = [f(n), constant(sizes), constant([0])]
    found = judged("SPLIT_V", inputs, [f(part) for part in parts], "SplitVOptions", numSplits=2)
    assert found == "" if not said else said in found, found


@pytest.mark.parametrize(
    ("positions", "masks", "output", "said"),
    [
        (([1], [3], [1]), {}, (2, 4), ""),
        (([1], [3, 3], [1]), {}, (2, 4), "takes 1 to 2 by 1 of 2 dimensions"),
        (([1], [3], [1, 1]), {}, (2, 4), "takes 1 to 1 by 2 of 2 dimensions"),
        (([0] * 3, [1] * 3, [1] * 3), {}, (1, 1), "takes 3 to 3 by 3 of 2 dimensions"),
        (([1], [3], [-1]), {}, (2, 4), "a slice of a rare kind"),
        (([1], [3], [0]), {}, (2, 4), "a slice of a rare kind"),
        (([1], [3], [1]), {"ellipsisMask": 1}, (2, 4), "a slice of a rare kind"),
        (([1], [3], [1]), {"newAxisMask": 1}, (2, 4), "a slice of a rare kind"),
        (([1], [3], [1]), {"offset": True}, (2, 4), "a slice of a rare kind"),
        (([5], [6], [1]), {"shrinkAxisMask": 1}, (4,), "takes value 5 of 5"),
        (([-6], [6], [1]), {"shrinkAxisMask": 1}, (4,), "takes value -6 of 5"),
        (([4], [5], [1]), {"shrinkAxisMask": 1}, (4,), ""),
        (([-5], [-4], [1]), {"shrinkAxisMask": 1}, (4,), ""),
        (([4], [5], [1]), {"shrinkAxisMask": 1, "beginMask": 1}, (4,), "takes value None of 5"),
    ],
)
def test_slices(positions, masks, output, said):
    found = judged("STRIDED_SLICE", [f(5, 4), *map(constant, positions)], f(*output), "StridedSliceOptions", **masks)
    assert found == "" if not said else said in found, found


def test_an_inference_has_bounds():
    """The bounds are 64 MB of tensors and two billion operations: four for each value, and one for each product."""
    n = 2**23
    assert judged("RELU", [f(n)], f(n)) == ""
    assert "more than 64 MB" in judged("RELU", [f(n + 1)], f(n + 1))
    weights, bias = f(1000, 1000, data=0), f(1000, data=0)
    # n * 10**6 products, and 4 * (n * 1000 * 2 + 10**6 + 1000) for what is read and written.
    assert dense_of(f(1980, 1000), weights, bias, f(1980, 1000)) == ""
    assert "more than 2 billion operations" in dense_of(f(1981, 1000), weights, bias, f(1981, 1000))

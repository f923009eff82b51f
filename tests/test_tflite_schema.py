"""Compares our reader of TFLite files with the bindings that the runtimes generate from ``schema.fbs``."""

import importlib
import struct

import numpy as np
import pytest

from kws_edge import ModelError
from kws_edge.model.tflite import FlatModel
from kws_edge.model.tflite.operators import LISTED
from kws_edge.model.tflite.schema import CUSTOM, OPERATORS, SIZES, TYPES
from tests.graphs import filled, packed

pytestmark = pytest.mark.host

LITERT, TENSORFLOW = "ai_edge_litert.schema_py_generated", "tensorflow.lite.python.schema_py_generated"


def bindings(name):
    pytest.importorskip(name.partition(".")[0], exc_type=ImportError, reason=f"{name} is not installed here")
    return importlib.import_module(name)


@pytest.fixture(scope="module", params=[LITERT, TENSORFLOW], ids=["LiteRT", "TensorFlow"])
def schema(request):
    return bindings(request.param)


@pytest.fixture(scope="module")
def newest():
    return bindings(TENSORFLOW)


def enum(kind) -> dict[int, str]:
    """Numbers and names of an enumeration."""
    return {value: name for name, value in vars(kind).items() if isinstance(value, int)}


def test_types_are_those_of_the_schema(schema):
    theirs = {n: name.lower() for n, name in enum(schema.TensorType).items()}
    shared = TYPES.keys() & theirs.keys()
    assert len(shared) >= 18
    assert {n: TYPES[n] for n in shared} == {n: theirs[n] for n in shared}


def test_no_type_is_invented(newest):
    assert TYPES.keys() <= enum(newest.TensorType).keys()


def test_sizes_are_those_of_numpy():
    tf = pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    assert {name: tf.dtypes.as_dtype(name).size for name in SIZES} == SIZES
    assert {name: np.dtype(name).itemsize for name in SIZES if name != "bfloat16"}.items() <= SIZES.items()
    assert set(TYPES.values()) - SIZES.keys() == {"string", "resource", "variant", "int4", "int2", "uint4"}


def test_operators_are_those_of_the_schema(schema):
    theirs = enum(schema.BuiltinOperator)
    assert {n: theirs[n] for n in OPERATORS} == OPERATORS
    assert schema.BuiltinOperator.CUSTOM == CUSTOM


NAMES_OF_OPTIONS = {
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), "Pool2DOptions"),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX"), "ReducerOptions"),
    **dict.fromkeys(("MAXIMUM", "MINIMUM"), "MaximumMinimumOptions"),
    **dict.fromkeys(("LOGISTIC", "RELU", "RELU6", "RELU_N1_TO_1", "TANH"), "NONE"),
}
"""Names of options of operators that have another name."""


@pytest.mark.parametrize("name", LISTED)
def test_kinds_of_options_are_those_of_the_schema(schema, name):
    kinds = {kind.lower(): n for n, kind in enum(schema.BuiltinOptions).items()}
    wanted = NAMES_OF_OPTIONS.get(name, name.replace("_", "") + "Options")
    assert LISTED[name].options == kinds[wanted.lower()]


# In this model every field that is read here has its own value.


def every_field(schema):
    """A ``ModelT`` of two graphs, three operators, six buffers."""
    s = schema
    quantization = filled(
        s.QuantizationParametersT, min=[0.5], max=[1.5], scale=[0.25, 0.75, 2.5], zeroPoint=[7, -8, 9],
        quantizedDimension=2,
    )  # fmt: skip
    tensors = [
        filled(s.TensorT, shape=[1, 98], type=9, buffer=0, name="first"),
        filled(s.TensorT, shape=[2, 5, 3], type=7, buffer=3, name="second", quantization=quantization, hasRank=True),
        filled(s.TensorT, shape=[4], type=0, buffer=0, name="third", isVariable=True, shapeSignature=[-1]),
        filled(s.TensorT, shape=[], type=4, buffer=5),
    ]
    operators = [
        filled(
            s.OperatorT, opcodeIndex=1, inputs=[1, -1, 0], outputs=[2], builtinOptionsType=1,
            builtinOptions=filled(s.Conv2DOptionsT, strideW=17), mutatingVariableInputs=[True], debugMetadataIndex=6,
        ),
        filled(s.OperatorT, opcodeIndex=2, inputs=[0], outputs=[3, 1]),
        filled(s.OperatorT, opcodeIndex=3, inputs=[], outputs=[]),
    ]  # fmt: skip
    graphs = [
        filled(
            s.SubGraphT,
            tensors=tensors,
            inputs=[0, 1],
            outputs=[3],
            operators=operators,
            name="main",
            debugMetadataIndex=1,
        ),
        filled(s.SubGraphT, tensors=tensors[:1], inputs=[], outputs=[0], operators=[], name="other"),
    ]
    codes = [
        filled(s.OperatorCodeT, deprecatedBuiltinCode=9, builtinCode=0, version=4),  # the form of files before 2020
        filled(s.OperatorCodeT, deprecatedBuiltinCode=3, builtinCode=3, version=5),
        filled(s.OperatorCodeT, deprecatedBuiltinCode=32, builtinCode=32, customCode="Mine"),
        filled(s.OperatorCodeT, deprecatedBuiltinCode=127, builtinCode=150),
    ]
    contents = ([], [1], [2] * 2, [3] * 60, [4] * 4, [5] * 8)
    signature = filled(
        s.SignatureDefT, inputs=[filled(s.TensorMapT, name="in", tensorIndex=0)],
        outputs=[filled(s.TensorMapT, name="out", tensorIndex=0)], signatureKey="serve", subgraphIndex=1,
    )  # fmt: skip
    return filled(
        s.ModelT, version=3, operatorCodes=codes, subgraphs=graphs, description="about",
        buffers=[filled(s.BufferT, data=np.array(c, np.uint8)) for c in contents], metadataBuffer=[2],
        metadata=[filled(s.MetadataT, name="min_runtime_version", buffer=4)], signatureDefs=[signature],
    )  # fmt: skip


def put(model, path: str, value) -> None:
    """Set the value at a path of fields and numbers."""
    *way, last = path.split(".")
    for step in way:
        model = model[int(step)] if step.isdigit() else getattr(model, step)
    assert hasattr(model, last)
    setattr(model, last, value)


def content(flat, tensor):
    start, size = tensor.data
    return flat.data[start : start + size]


def test_every_field_is_read_as_it_was_written(schema):
    flat = FlatModel(packed(schema, every_field(schema)), "made")
    assert (flat.version, flat.weight_bytes, flat.signatures, flat.odd) == (3, 1 + 2 + 60 + 4 + 8, ["serve"], [])
    main, other = flat.graphs
    assert [(g.name, g.inputs, g.outputs) for g in flat.graphs] == [("main", (0, 1), (3,)), ("other", (), (0,))]
    assert (len(other.tensors), other.operators, flat.tensors) == (1, [], main.tensors)
    assert (flat.inputs, flat.outputs) == (tuple(main.tensors[:2]), (main.tensors[3],))
    first, second, third, last = main.tensors
    assert [t.name for t in main.tensors] == ["first", "second", "third", ""]
    assert [t.shape for t in main.tensors] == [(1, 98), (2, 5, 3), (4,), ()]
    assert [t.dtype for t in main.tensors] == ["int8", "int16", "float32", "int64"]
    assert [t.variable for t in main.tensors] == [False, False, True, False]
    assert [t.odd for t in main.tensors] == [""] * 4
    assert [(t.elements, t.size) for t in main.tensors] == [(98, 98), (30, 60), (4, 16), (1, 8)]
    assert (second.scale, second.scales) == (0.25, (0.25, 0.75, 2.5))
    assert (second.zero_point, second.zero_points, second.axis) == (7, (7, -8, 9), 2)
    assert (first.scale, first.scales, first.zero_point, first.zero_points, first.axis) == (0, (), 0, (), 0)
    assert (first.data, third.data) == (None, None)
    assert content(flat, second) == bytes([3] * 60)
    assert content(flat, last) == bytes([5] * 8)
    conv, custom, late = main.operators
    assert (conv.name, conv.version, conv.inputs, conv.outputs, conv.kind) == ("CONV_2D", 5, (1, -1, 0), (2,), 1)
    assert conv.options.scalar(1, "i") == 17
    assert (custom.name, custom.version, custom.inputs, custom.outputs) == ("CUSTOM Mine", 1, (0,), (3, 1))
    assert (custom.kind, custom.options) == (0, None)
    assert (late.name, [op.odd for op in main.operators]) == ("GELU", [""] * 3)
    assert flat.operators == ("CONV_2D", "CUSTOM Mine", "GELU")
    assert flat.uncounted == ("CUSTOM Mine",)
    assert flat.stateful


def test_codes_of_old_files(schema):
    model = every_field(schema)
    model.subgraphs[0].operators[2].opcodeIndex = 0
    assert FlatModel(packed(schema, model), "made").graphs[0].operators[2][:2] == ("FULLY_CONNECTED", 4)


def _sparse(schema, model):
    model.subgraphs[0].tensors[1].sparsity = schema.SparsityParametersT()


def _variant(schema, model):
    model.subgraphs[0].tensors[1].variantTensors = [schema.VariantSubTypeT()]


def _elsewhere(schema, model):
    model.subgraphs[0].tensors[1].externalBuffer = 5


def _own_quantisation(schema, model):
    quantization = model.subgraphs[0].tensors[1].quantization
    quantization.detailsType = schema.QuantizationDetails.CustomQuantization
    quantization.details = filled(schema.CustomQuantizationT, custom=[1, 2])


@pytest.mark.parametrize(
    ("change", "odd"),
    [
        (_sparse, "sparse values"),
        (_variant, "a type made of others"),
        (_elsewhere, "values in another file"),
        (_own_quantisation, "a quantisation of its own"),
    ],
)
def test_odd_tensors(newest, change, odd):
    model = every_field(newest)
    change(newest, model)
    flat = FlatModel(packed(newest, model), "made")
    assert ([t.odd for t in flat.tensors], flat.odd) == (["", odd, "", ""], [])


@pytest.mark.parametrize(
    ("fields", "odd"),
    [
        ({"intermediates": [0]}, "intermediate tensors"),
        ({"customOptions": [1, 2]}, "options of a custom kind"),
        ({"largeCustomOptionsOffset": 5, "largeCustomOptionsSize": 7}, "options of a custom kind"),
        ({"largeCustomOptionsSize": 7}, "options of a custom kind"),
        ({"builtinOptions2Type": 4}, "options of a custom kind"),
    ],
)
def test_odd_operators(schema, fields, odd):
    model = every_field(schema)
    for name, value in fields.items():
        put(model, f"subgraphs.0.operators.1.{name}", value)
    assert [op.odd for op in FlatModel(packed(schema, model), "made").graphs[0].operators] == ["", odd, ""]


def test_odd_files(newest):
    model = every_field(newest)
    model.metadata[0].name = "model_control_dependencies"
    assert FlatModel(packed(newest, model), "made").odd == ["control dependencies"]
    for field in ("externalBufferGroups", "externalBuffers"):
        model = every_field(newest)
        kind = getattr(newest, f"{field[0].upper()}{field[1:-1]}T")
        setattr(model, field, [kind()])
        assert FlatModel(packed(newest, model), "made").odd == ["buffers in other files"]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("subgraphs.0.inputs", [4], "a tensor of number 4"),
        ("subgraphs.0.inputs", [-1], "a tensor of number -1"),
        ("subgraphs.0.outputs", [4], "a tensor of number 4"),
        ("subgraphs.0.outputs", [-1], "a tensor of number -1"),
        ("subgraphs.0.operators.1.inputs", [4], "a tensor of number 4"),
        ("subgraphs.0.operators.1.inputs", [-2], "a tensor of number -2"),
        ("subgraphs.0.operators.1.outputs", [4], "a tensor of number 4"),
        ("subgraphs.0.operators.1.outputs", [-1], "a tensor of number -1"),
        ("subgraphs.0.operators.1.intermediates", [4], "a tensor of number 4"),
        ("subgraphs.0.operators.1.intermediates", [-2], "a tensor of number -2"),
        ("subgraphs.0.operators.1.opcodeIndex", 4, "an operator's code of number 4"),
        ("subgraphs.0.operators.1.largeCustomOptionsSize", 10**6, "options that lie outside of the file"),
        ("subgraphs.0.operators.1.largeCustomOptionsOffset", 10**6, "options that lie outside of the file"),
        ("subgraphs.0.tensors.0.buffer", 6, "a buffer of number 6"),
        ("subgraphs.0.tensors.0.shape", [3, -1], r"a tensor of shape \[3, -1\]"),
        ("subgraphs.0.tensors.0.shape", [1] * 17, "17 numbers where 16"),
        ("metadataBuffer", [6], "a buffer of number 6"),
        ("metadata.0.buffer", 6, "a buffer of number 6"),
        ("signatureDefs.0.subgraphIndex", 2, "a subgraph of number 2"),
        ("signatureDefs.0.inputs.0.tensorIndex", 1, "a tensor of number 1"),
        ("signatureDefs.0.outputs.0.tensorIndex", 1, "a tensor of number 1"),
        ("signatureDefs.0.inputs.0.name", None, "a signature's tensor without a name"),
        ("signatureDefs.0.outputs.0.name", None, "a signature's tensor without a name"),
        ("signatureDefs.0.signatureKey", None, "a signature without a name"),
        ("subgraphs", [], "no subgraph"),
    ],
)
def test_numbers_that_lead_nowhere(schema, path, value, words):
    model = every_field(schema)
    put(model, path, value)
    with pytest.raises(ModelError, match=words):
        FlatModel(packed(schema, model), "made")


def test_sixteen_dimensions_are_read(schema):
    model = every_field(schema)
    model.subgraphs[0].tensors[0].shape = list(range(1, 17))
    assert FlatModel(packed(schema, model), "made").tensors[0].shape == tuple(range(1, 17))


def test_a_buffer_behind_the_flatbuffer(schema):
    """In files beyond 2 GB, an offset and a size take the place of the bytes."""
    model = every_field(schema)
    model.buffers[3].data, model.buffers[3].offset, model.buffers[3].size = None, 5000, 60
    data = packed(schema, model).ljust(5000, b"\0") + bytes(range(60))
    flat = FlatModel(data, "made")
    assert (flat.tensors[1].data, flat.odd) == ((5000, 60), [])
    with pytest.raises(ModelError, match="a buffer ends at 5060"):
        FlatModel(data[:-1], "made")
    model.buffers[3].offset = 1  # a sign that the offset is not known yet
    assert FlatModel(packed(schema, model), "made").tensors[1].data is None


TABLES = (
    *("Model", "OperatorCode", "Buffer", "SubGraph", "Tensor", "Operator"),
    *("QuantizationParameters", "Metadata", "SignatureDef", "TensorMap"),
)


@pytest.mark.parametrize("table", TABLES)
def test_fields_of_a_newer_format_are_noticed(newest, monkeypatch, table):
    """A field beyond the schema's is noticed as new. No field of the schema is."""
    model = every_field(newest)
    assert FlatModel(packed(newest, model), "made").odd == []
    fields = []
    start, end = getattr(newest, f"{table}Start"), getattr(newest, f"{table}End")

    def one_more(builder):
        start(type("Counts", (), {"StartObject": lambda _, n: fields.append(n)})())
        builder.StartObject(fields[-1] + 1)

    def with_it(builder):
        builder.PrependInt32Slot(fields[-1], 1, 0)
        return end(builder)

    monkeypatch.setattr(newest, f"{table}Start", one_more)
    monkeypatch.setattr(newest, f"{table}End", with_it)
    assert FlatModel(packed(newest, model), "made").odd == ["fields of a newer format"]


def test_root_is_found_as_the_schema_says(schema):
    data = packed(schema, every_field(schema))
    assert data[4:8] == b"TFL3"
    assert struct.unpack_from("<I", data)[0] == schema.Model.GetRootAs(data, 0)._tab.Pos

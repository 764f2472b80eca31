"""REST requests and their answers by TF Serving's source.

Functions that read JSON, such as ``AddValueToTensor``, are in ``util/json_tensor.cc`` of TF Serving 2.19, patterns of
paths in ``model_servers/http_rest_api_util.cc``, methods in ``http_rest_api_handler.cc`` and ``http_server.cc``.
"""

import contextlib
import gzip
import http.client
import json
from typing import Any, NamedTuple

import pytest
import tensorflow as tf

from serving.client.transport.rest import RestTransport
from serving.wire import predict_pb2 as wire

LIMIT_BYTES = 1 << 20


class Row(NamedTuple):
    """A request and its answer.

    Attributes:
        source: The place in TF Serving's source that decides.
        request: Method and path, as sent.
        body: JSON, or bytes that are sent as they are.
        status: HTTP status.
        answer: The whole JSON of status 200; part of the message of an error.
        headers: Headers of the request.
    """

    source: str
    request: str
    body: Any
    status: int
    answer: Any
    headers: dict[str, str] = {}  # noqa: RUF012


TEXT = "POST /v1/models/echo:predict"
UNCHANGED = {"predictions": ["a", "b"]}
A = {"instances": ["a"]}
ECHO_A = {"predictions": ["a"]}
GZIP = {"Content-Encoding": "gzip"}
STATUS = {
    "model_version_status": [
        {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
}


def _text(source: str, body: Any, answer: Any = UNCHANGED, status: int = 200, **more: Any) -> Row:
    return Row(source, TEXT, body, status, answer, **more)


def _refused(source: str, body: Any, message: str, status: int = 400, **more: Any) -> Row:
    return Row(source, TEXT, body, status, message, **more)


def _numbers(source: str, inputs: Any, status: int, answer: Any) -> Row:
    """Row of the signature with ``x``, float32 ``[items, values]``, and ``n``, int32 ``[items]``."""
    body = inputs if isinstance(inputs, bytes) else {"signature_name": "numbers"} | inputs
    return Row(source, TEXT, body, status, answer)


def _one(x: Any = "[1]", n: Any = "1") -> bytes:
    return f'{{"signature_name": "numbers", "inputs": {{"x": [{x}], "n": [{n}]}}}}'.encode()


def _b64(text: str, value: str | None) -> Row:
    """Row of one value in base64, and the text it stands for."""
    if value is None:
        return _refused("Base64Unescape", {"instances": [{"b64": text}]}, "base64")
    return _text("Base64Unescape", {"instances": [{"b64": text}]}, {"predictions": [value]})


PATHS = [
    Row(
        "kPredictionApiGegex",
        "POST /v1/models/echo/versions/3:predict",
        A,
        200,
        ECHO_A,
    ),
    Row("kPredictionApiGegex", "POST /v1/models/echo/labels/stable:predict", {"inputs": "a"}, 400, "shape"),
    Row("kPredictionApiGegex", "POST /V1/Models/echo:predict", A, 200, ECHO_A),
    Row(
        "ProcessRequest",
        "POST /v1/models/echo:PREDICT",
        A,
        400,
        "Malformed request: POST /v1/models",
    ),
    Row("kPredictionApiGegex", "POST /v1/models/echo", A, 400, "Malformed request"),
    Row("kPredictionApiGegex", "POST /v1/models/echo/:predict", A, 400, "Malformed request"),
    Row("kPredictionApiGegex", "POST /v1/models/echo:explain", A, 400, "Malformed request"),
    Row("kPredictionApiGegex", "POST /v1/models/echo/metadata", b"", 400, "Malformed request"),
    Row("kPredictionApiGegex", "POST /v1/models/echo/versions/x:predict", {}, 400, "Malformed request"),
    Row("kPredictionApiGegex", "POST /v1/models/echo/version/3:predict", {}, 400, "Malformed request"),
    Row("kPredictionApiGegex", "POST /v1/models/echo/versions/3/labels/stable:predict", {}, 400, "Malformed request"),
    Row("kPredictionApiGegex", "POST /v1/models:predict", {}, 400, "Malformed request"),
    Row("EvHTTPRequest::uri_path", "POST /v1/models/echo:predict?alt=json", {}, 400, "echo:predict?alt=json"),
    Row("SimpleAtoi", "POST /v1/models/echo/versions/9223372036854775808:predict", {}, 400, "convert version"),
    Row("SimpleAtoi", "POST /v1/models/echo/versions/003:predict", A, 200, ECHO_A),
    Row("GetServableHandle", "POST /v1/models/echo/versions/9:predict", A, 404, "version 9"),
    Row("GetServableHandle", "POST /v1/models/other:predict", A, 404, "'other'"),
    Row("GetModelVersionForLabel", "POST /v1/models/echo/labels/beta:predict", A, 400, "'beta'"),
    Row("ParseJson before GetInfoMap", "POST /v1/models/other:predict", b"x", 400, "JSON"),
    Row("DecodeArg", "POST /v1/models/%65cho:predict", A, 200, ECHO_A),
    Row("DecodeArg", "POST /v1/models/a%3Ab%2Fc%20d:predict", A, 200, ECHO_A),
    Row(
        "DecodeArg",
        "POST /v1/models/a%3Ab%2Fc%20d/labels/x%2Fy:predict",
        A,
        200,
        ECHO_A,
    ),
    Row("DecodeArg", "POST /v1/models/echo%zz:predict", A, 404, "'echo%zz'"),
    Row("PreProcessClassification", "POST /v1/models/echo:classify", {"examples": [{"x": 1}]}, 400, "classify"),
    Row("PreProcessRegression", "POST /v1/models/echo:regress", {"examples": [{"x": 1}]}, 400, "regress"),
    Row("kModelStatusApiRegex", "GET /v1/models/echo", b"", 200, STATUS),
    Row("kModelStatusApiRegex", "GET /v1/models/echo/versions/3", b"", 200, STATUS),
    Row("GetModelStatusWithModelSpec ignores labels", "GET /v1/models/echo/labels/beta", b"", 200, STATUS),
    Row("ProcessRequest compares with metadata", "GET /v1/models/echo/METADATA", b"", 200, STATUS),
    Row("GetModelStatusWithModelSpec", "GET /v1/models/echo/versions/9", b"", 404, "version 9"),
    Row("GetModelStatusWithModelSpec", "GET /v1/models/other", b"", 404, "'other'"),
    Row("GetModelStatusWithModelSpec", "GET /v1/models/metadata", b"", 404, "'metadata'"),
    Row("ProcessModelStatusRequest", "GET /v1/models", b"", 400, "Missing model name"),
    Row("ProcessModelStatusRequest", "GET /v1/models/versions/3", b"", 400, "Missing model name"),
    Row("GetModelVersionForLabel", "GET /v1/models/echo/labels/beta/metadata", b"", 400, "'beta'"),
    Row("kModelStatusApiRegex", "GET /v1/models/", b"", 400, "Malformed request: GET /v1/models/"),
    Row("kModelStatusApiRegex", "GET /v1/models/echo/", b"", 400, "Malformed request"),
    Row("kModelStatusApiRegex", "GET /v1/models/echo:predict", b"", 400, "Malformed request"),
    Row("kModelStatusApiRegex", "GET /v1/foo", b"", 400, "Malformed request"),
    Row("ProcessRequest", "PUT /v1/models/echo:predict", A, 400, "Malformed request: PUT"),
    Row("ProcessRequest", "DELETE /v1/models/echo", b"", 400, "Malformed request: DELETE"),
    Row("ProcessRequest", "PATCH /v1/models/echo", b"", 400, "Malformed request: PATCH"),
    Row("RestApiRequestDispatcher::ProcessRequest", "OPTIONS /v1/x", b"", 200, {}, {"Origin": "http://here"}),
    Row("RestApiRequestDispatcher::ProcessRequest", "OPTIONS /v1/models/echo:predict", b"", 400, "Origin"),
    Row("Dispatch, kPathRegex", "GET /v2/models/echo", b"", 404, "/v2/models/echo"),
    Row("Dispatch, kPathRegex", "POST /", b"", 404, "no such path"),
]

BODIES = [
    _text("ParseJson, kParseStopWhenDoneFlag", b'{"instances": ["a", "b"]} further \xff bytes'),
    _text("ParseJson, kParseStopWhenDoneFlag", b'{"instances": ["a", "b"]}{"instances": ["c"]}'),
    _text("ParseJson, EncodedInputStream", b'\xef\xbb\xbf\r\n\t {"instances": ["a", "b"]}'),
    _text("ParseJson without kParseValidateEncodingFlag", b'{"instances": ["\xff"]}', {"predictions": ["\ufffd"]}),
    _text(
        "RapidJSON ParseStringToStream", rb'{"instances": ["\ud83d\ude00\u0000"]}', {"predictions": ["\U0001f600\0"]}
    ),
    _text("FindMember returns the first", b'{"instances": ["a", "b"], "instances": ["c"]}'),
    _text("only known keys are read", {"instances": ["a", "b"], "output_filter": 3, "id": None}),
    _text("ProcessRequest reads no Content-Type", {"instances": ["a", "b"]}, headers={"Content-Type": "text/html"}),
    _text(
        "EvHTTPRequest::UncompressGzipBody",
        gzip.compress(b'{"instances": ["a", "b"]}'),
        headers=GZIP,
    ),
    _refused("ReadRequestGzipBytes", b'{"instances": ["a"]}', "gzip", headers=GZIP),
    _refused("ReadRequestGzipBytes", gzip.compress(b"{}")[:-9], "gzip", headers=GZIP),
    _refused("ParseJson", b"", "JSON"),
    _refused("ParseJson", b'{"instances": ["a"]', "JSON"),
    _refused("ParseJson", b"{'instances': ['a']}", "JSON"),
    _refused("ParseJson", b'{"instances": ["a",]}', "JSON"),
    _refused("ParseJson, UTF8<>", '{"instances": ["a"]}'.encode("utf-16"), "JSON"),
    _refused("RapidJSON SurrogateInvalid", rb'{"instances": ["\ud800"]}', "UTF-8"),
    _refused("ParseJson, IsObject", b'["a"]', "JSON object"),
    _refused("ParseJson, IsObject", b"3", "JSON object"),
    _refused("FillPredictRequestFromJson", {}, "'instances'"),
    _refused("FillPredictRequestFromJson", {"instances": ["a"], "inputs": ["a"]}, "'inputs'"),
    _refused("FillPredictRequestFromJson", {"instances": "a"}, "'instances'"),
    _refused("FillPredictRequestFromJson", {"instances": None}, "'instances'"),
    _refused("FillPredictRequestFromJson", {"instances": []}, "'instances'"),
    _text("GetInfoMap", {"signature_name": "", "instances": ["a", "b"]}),
    _text("GetInfoMap", {"signature_name": "serving_default", "instances": ["a", "b"]}),
    _refused("GetInfoMap", {"signature_name": "sing", "instances": ["a"]}, "'sing'"),
    _refused("FillSignature", {"signature_name": None, "instances": ["a"]}, "must be a string"),
    _refused("FillSignature", {"signature_name": 3, "instances": ["a"]}, "must be a string"),
    _refused("FillSignature", {"signature_name": ["numbers"], "instances": ["a"]}, "must be a string"),
]

FORMS = [
    _text("FillTensorMapFromInstancesList", {"instances": [{"text": "a"}, {"text": "b"}]}),
    _text("IsValBase64Object", {"instances": [{"b64": "YQ=="}, "b"]}),
    _text("IsValBase64Object", {"instances": [{"text": {"b64": "YQ=="}}, {"text": "b"}]}),
    _refused("IsElementObject", {"instances": [{"text": "a"}, "b"]}, "item 1"),
    _refused("IsElementObject", {"instances": ["a", {"text": "b"}]}, "item 1"),
    _refused("IsElementObject", {"instances": [{"text": "a"}, {"b64": "YQ=="}]}, "item 1"),
    _refused("AddInstanceItem", {"instances": [{"word": "a"}]}, "['word']"),
    _refused("input_names != object_keys", {"instances": [{}]}, "[]"),
    _refused("AddInstanceItem", {"instances": [{"text": "a", "word": "b"}]}, "['text', 'word']"),
    _refused("IsShapeEqual", {"instances": ["a", ["b"]]}, "not list"),
    _refused("IsShapeEqual", {"instances": [["a"], ["b", "c"]]}, "regular"),
    _text("FillTensorMapFromInputsMap", {"inputs": ["a", "b"]}, {"outputs": ["a", "b"]}),
    _text("FillTensorMapFromInputsMap", {"inputs": {"text": ["a", "b"]}}, {"outputs": ["a", "b"]}),
    _text("FillTensorMapFromInputsMap", {"inputs": {"text": ["a"], "word": [{}]}}, {"outputs": ["a"]}),
    _refused("FillTensorMapFromInputsMap", {"inputs": {}}, "Missing named input"),
    _refused("FillTensorMapFromInputsMap", {"inputs": {"word": ["a"]}}, "Missing named input"),
    _refused("batching needs a dimension", {"inputs": {"b64": "YQ=="}}, "shape []"),
    _refused("JsonDecodeBase64Object", {"inputs": {"text": [{"b64": 3}]}}, "dict"),
    _refused("JsonDecodeBase64Object", {"inputs": {"text": [{"b64": "YQ==", "a": 1}]}}, "dict"),
    _numbers("AddInstanceItem", {"instances": [{"x": [1, 2], "n": 3}]}, 200, {"predictions": [{"n": 3, "sum": 3.0}]}),
    _numbers(
        "FillTensorMapFromInputsMap", {"inputs": {"x": [[1, 2]], "n": [3]}}, 200, {"outputs": {"n": [3], "sum": [3.0]}}
    ),
    _numbers("FillTensorMapFromInstancesList", {"instances": [3]}, 400, "item 0"),
    _numbers("VerifyRequestInputsSize", {"instances": [{"b64": "YQ=="}]}, 400, "item 0"),
    _numbers("FillTensorMapFromInputsMap", {"inputs": [1]}, 400, "'inputs'"),
    _numbers("FillTensorMapFromInputsMap", {"inputs": {"x": [[1]]}}, 400, "Missing named input: ['n']"),
    _numbers("IsShapeEqual", {"instances": [{"x": [1], "n": 1}, {"x": [1, 2], "n": 2}]}, 400, "regular"),
    Row("MakeRowFormatJsonFromTensors", TEXT, {"signature_name": "total", "instances": ["a"]}, 400, "make no rows"),
    Row("MakeColumnarFormatJsonFromTensors", TEXT, {"signature_name": "total", "inputs": ["a"]}, 200, {"outputs": 1}),
    Row(
        "IsNamedTensorBytes",
        TEXT,
        {"signature_name": "raw", "instances": ["a"]},
        200,
        {"predictions": [{"b64": "YQ=="}]},
    ),
]

VALUES = [
    _numbers(
        "AddValueToTensor, IsNumber",
        _one(x="[1, 2.5, -1e-3]"),
        200,
        {"outputs": {"n": [1], "sum": [3.499000072479248]}},
    ),
    _numbers("GetFloat", _one(x="[1e39]"), 200, {"outputs": {"n": [1], "sum": [float("inf")]}}),
    _numbers(
        "kParseNanAndInfFlag, WriteDecimal", _one(x="[-Infinity]"), 200, {"outputs": {"n": [1], "sum": [float("-inf")]}}
    ),
    _numbers("kParseNanAndInfFlag, WriteDecimal", _one(x="[NaN]"), 200, {"outputs": {"n": [1], "sum": [float("nan")]}}),
    *(
        _numbers("AddValueToTensor, IsNumber", _one(x=f"[{value}]"), 400, "float32")
        for value in ('"1"', "true", "null", "{}", '{"b64": "MQ=="}')
    ),
    *(
        _numbers("AddValueToTensor, IsInt", _one(n=value), 400, "int32")
        for value in ("1.5", "1.0", '"1"', "true", "null", "2147483648")
    ),
    _numbers("AddValueToTensor, IsInt", _one(n="-2147483648"), 200, {"outputs": {"n": [-2147483648], "sum": [1.0]}}),
    *(_numbers("FillTensorProto", _one(x=value), 400, "regular") for value in ("[1], 2", "[1], [1, 2]", "[1], []")),
    *(_numbers("FillTensorProto", _one(x=value), 400, "float32") for value in ("[[1]]", "[1, [2]]", "1")),
    *(_refused("AddValueToTensor, IsString", {"instances": [value]}, "string") for value in (1, 1.5, True, None)),
    Row(
        "AddValueToTensor, IsBool",
        TEXT,
        {"signature_name": "flags", "instances": [True, False]},
        200,
        {"predictions": [True, False]},
    ),
    Row("AddValueToTensor, IsBool", TEXT, {"signature_name": "flags", "instances": [1]}, 400, "bool"),
    Row("AddValueToTensor, default", TEXT, {"signature_name": "half", "instances": [1]}, 501, "float16"),
    _b64("YWJj", "abc"),
    _b64("", ""),
    _b64("YQ", "a"),
    _b64("YQ..", "a"),
    _b64("YW\nJj\r\n ZGU=\n", "abcde"),
    _b64("YQ=", None),
    _b64("YWJj====", None),
    _b64("YWJjZ", None),
    _b64("YQ==YQ==", None),
    _b64("-_-_", None),
    _b64("é", None),
]

LIMITS = [
    _refused("evhttp has no limit", b" " * (LIMIT_BYTES + 1), str(LIMIT_BYTES), 429),
    _refused(
        "ZLib::kMaxUncompressedBytes",
        gzip.compress(b" " * (LIMIT_BYTES + 1)),
        str(LIMIT_BYTES),
        429,
        headers=GZIP,
    ),
    _refused("kParseIterativeFlag, GetDenseTensorShape", b'{"instances": ' + b"[" * 100_000, "JSON"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory, run_server):
    folder = tmp_path_factory.mktemp("rest")
    _save(folder / "models" / "3")
    config = folder / "models.config"
    config.write_text(
        f"model_config_list {{ {_config('echo', 'stable', folder)} {_config('a:b/c d', 'x/y', folder)} }}"
    )
    running = run_server(model_config_file=config, max_request_bytes=LIMIT_BYTES)
    yield running
    running.stop()


def _config(name: str, label: str, folder: Any) -> str:
    labels = f'version_labels {{ key: "{label}" value: 3 }}'
    model = f'name: "{name}" base_path: "{folder / "models"}" model_platform: "tensorflow" {labels}'
    return f"config {{ {model} }}"


def _save(folder: Any) -> None:
    """Save a model that returns what it gets."""
    texts = tf.TensorSpec([None], tf.string, "text")
    module = tf.Module()
    module.echo = tf.function(lambda text: {"text": tf.identity(text)}, input_signature=[texts])
    module.raw = tf.function(lambda text: {"text_bytes": tf.identity(text)}, input_signature=[texts])
    module.total = tf.function(lambda text: {"total": tf.size(text)}, input_signature=[texts])
    module.numbers = tf.function(
        lambda x, n: {"sum": tf.reduce_sum(x, axis=1), "n": tf.identity(n)},
        input_signature=[tf.TensorSpec([None, None], tf.float32, "x"), tf.TensorSpec([None], tf.int32, "n")],
    )
    module.flags = tf.function(
        lambda flag: {"flag": tf.identity(flag)}, input_signature=[tf.TensorSpec([None], tf.bool, "flag")]
    )
    module.half = tf.function(lambda x: {"x": tf.identity(x)}, input_signature=[tf.TensorSpec([None], tf.float16, "x")])
    names = ("raw", "total", "numbers", "flags", "half")
    signatures = {"serving_default": module.echo} | {name: getattr(module, name) for name in names}
    tf.saved_model.save(module, str(folder), signatures=signatures)


@pytest.mark.parametrize(
    "row", [*PATHS, *BODIES, *FORMS, *VALUES, *LIMITS], ids=lambda row: f"{row.source}: {row.request}"
)
def test_requests_are_answered_as_by_tf_serving(server, row):
    status, answer = _send(server, row)
    assert status == row.status, answer
    if status == 200:
        assert _text_of(answer) == _text_of(row.answer)
    else:
        assert row.answer in answer["error"]


def _send(server: Any, row: Row) -> tuple[int, Any]:
    method, path = row.request.split(" ", 1)
    body = row.body if isinstance(row.body, bytes) else json.dumps(row.body).encode()
    connection = http.client.HTTPConnection("localhost", server.server.rest_api_port, timeout=30)
    try:
        connection.request(method, path, body, row.headers)  # the path as it is, percent-encoded or not
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def _text_of(answer: Any) -> str:
    """Return JSON, in which NaN is equal to itself."""
    return json.dumps(answer, sort_keys=True)


def test_metadata_have_fields_with_default_values(server):
    _, answer = _send(server, Row("ToJsonString", "GET /v1/models/echo/labels/stable/metadata", b"", 200, None))
    assert answer["model_spec"] == {"name": "echo", "signature_name": "", "version": "3"}
    text = answer["metadata"]["signature_def"]["signature_def"]["raw"]["inputs"]["text"]
    assert text["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}


def test_the_client_encodes_names(server):
    request = wire.PredictRequest(
        model_spec={"name": "a:b/c d", "version_label": "x/y", "signature_name": "numbers"},
        inputs={
            "x": {"dtype": wire.DT_FLOAT, "float_val": [1, 2], "tensor_shape": {"dim": [{"size": 1}, {"size": 2}]}},
            "n": {"dtype": wire.DT_INT32, "int_val": [3], "tensor_shape": {"dim": [{"size": 1}]}},
        },
    )
    with contextlib.closing(RestTransport(server.rest_url, ca_file=None)) as transport:
        outputs = transport.predict(request, timeout_sec=30).outputs
    assert (list(outputs["n"].int_val), list(outputs["sum"].float_val)) == ([3], [3])

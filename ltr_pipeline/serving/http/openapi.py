"""The description of the API: schemas from the structs of `wire`, an example and every answer for each operation.

The framework could describe pydantic models only; the bodies here are msgspec structs, so this module describes them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

import msgspec
from starlette.routing import BaseRoute, Route

from ltr_pipeline.board.asked import FURTHEST
from ltr_pipeline.scoring.requests import LONGEST_NAME
from ltr_pipeline.serving import wire
from ltr_pipeline.serving.http.examples import Example, Sample, examples
from ltr_pipeline.serving.monitoring import answers
from ltr_pipeline.serving.weights.catalogue import Versions
from ltr_pipeline.serving.weights.reload import Report

__all__ = ["OPERATIONS", "TITLE", "Operation", "document"]

TITLE: Final = "ltr-pipeline"
ABOUT: Final = (
    "The service ranks with the published weights. Writes need a key in `X-API-Key`; a service without keys takes "
    'writes from its own machine only. Every error is answered as `{"error": …}`; docs/api.md lists them.'
)
VALUE: Final = {"type": ["number", "null"]}
FEATURES: Final = {
    "description": "By name, or a list in the model's order. A feature that is null or not there is missing.",
    "anyOf": [
        {"type": "object", "propertyNames": {"maxLength": LONGEST_NAME}, "additionalProperties": VALUE},
        {"type": "array", "items": VALUE},
    ],
}
SHADOW: Final = {
    "name": "x-shadow-ltr",
    "in": "header",
    "description": "1 = LTR_SHADOW_VERSION scores this request, too; the answer stays the same.",
    "schema": {"type": "string"},
    "example": "1",
}
FORCE: Final = {
    "name": "force",
    "in": "query",
    "description": "true = documents that were refused get another chance.",
    "schema": {"type": "boolean"},
}

PAGE: Final = {
    "name": "page",
    "in": "query",
    "description": "Page of the list, from 1.",
    "schema": {"type": "integer", "minimum": 1, "maximum": FURTHEST, "default": 1},
}
SIZE: Final = {
    "name": "size",
    "in": "query",
    "description": "Entries of a page.",
    "schema": {"type": "integer", "minimum": 1, "maximum": answers.MOST_SIZE, "default": 50},
}
DATE: Final = {
    "name": "date",
    "in": "query",
    "description": "Day to report on; default: the newest.",
    "schema": {"type": "string", "format": "date"},
}
RANKED_BY: Final = {
    "name": "version",
    "in": "query",
    "description": "Only lists that this version ranked; default: all.",
    "schema": {"type": "string", "maxLength": 256},
}
WRONG_WORD: Final = {422: "A parameter is wrong; the message says which."}

NEEDS_KEY: Final = {401: "No key was sent.", 403: "The key is unknown, or none is set and the sender is elsewhere."}
NEEDS_BODY: Final = {
    400: "The body is not JSON.",
    408: "The body took too long to arrive.",
    413: "The body is too large.",
    415: "Content-Type does not say that the body is JSON.",
    422: "The request is wrong; the message says which candidate and field.",
}


UNRANKED: Final = {503: "Nothing ranks yet: no model is published, and the mapping has no legacy weights."}
CROWDED: Final = {429: "So many explanations are under way that another one is refused for now."}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An operation of the API.

    Attributes
    ----------
    asks, gives
        Types of the body and of the answer; None = no body, or text.
    status
        Status of a good answer.
    writes
        Whether it needs a key, as what writes or takes a core for long does.
    bare
        Whether the body may be left out.
    also, fails
        Further statuses by when they occur: `also` answers with `gives`, `fails` with an error.
    """

    method: str
    path: str
    tag: str
    summary: str
    gives: Any
    asks: Any = None
    status: int = 200
    writes: bool = False
    bare: bool = False
    parameters: tuple[Mapping[str, Any], ...] = ()
    also: Mapping[int, str] = {}
    fails: Mapping[int, str] = {}


def _records(path: str, summary: str, asks: Any) -> Operation:  # noqa: ANN401 - a type
    """Describe an operation that takes events."""
    return Operation(
        method="post",
        path=path,
        tag="Feedback",
        summary=summary,
        writes=True,
        asks=asks,
        gives=wire.Recorded,
        status=202,
        fails={503: "There is no room for events now; none of them was taken."},
    )


OPERATIONS: Final = (
    Operation(
        method="post",
        path="/ltr/rank",
        tag="Ranking",
        summary="Order candidates, best first",
        writes=True,
        fails=CROWDED | UNRANKED,
        parameters=(SHADOW,),
        asks=wire.RankRequest,
        gives=wire.RankAnswer,
    ),
    Operation(
        method="post",
        path="/ltr/explain",
        tag="Ranking",
        summary="Explain why one candidate stands above another",
        writes=True,
        fails=CROWDED | UNRANKED,
        asks=wire.ExplainRequest,
        gives=wire.Explanation,
    ),
    _records(
        path="/ltr/feedback",
        summary="Report what users did with the items they were shown",
        asks=wire.FeedbackRequest,
    ),
    _records(
        path="/ltr/shown",
        summary="Report which items of an answer were really shown",
        asks=wire.ShownRequest,
    ),
    Operation(
        method="get",
        path="/ltr/health",
        tag="Operation",
        summary="Check that the process lives, and see the model it ranks with",
        gives=wire.Health,
    ),
    Operation(
        method="get",
        path="/ltr/ready",
        tag="Operation",
        summary="Check whether a published model is in use",
        gives=wire.Ready,
        also={503: "The legacy weights answer requests so far."},
    ),
    Operation(
        method="get",
        path="/api/debug/reload_weights",
        tag="Operation",
        summary="See the results of looking for new weights",
        gives=Report,
    ),
    Operation(
        method="post",
        path="/api/debug/reload_weights",
        tag="Operation",
        summary="Look for new weights now",
        writes=True,
        parameters=(FORCE,),
        fails={422: "force is neither true nor false."},
        gives=Report,
    ),
    Operation(
        method="get",
        path="/ltr/versions",
        tag="Operation",
        summary="List the versions, and see which one ranks here",
        gives=Versions,
        fails={503: "The registry cannot be reached or read."},
    ),
    Operation(
        method="get",
        path="/monitoring/metrics",
        tag="Monitoring",
        summary="See what the gate measured, night by night, and the metrics that were posted",
        parameters=(PAGE, SIZE),
        gives=answers.MetricsAnswer,
        fails=WRONG_WORD,
    ),
    Operation(
        method="post",
        path="/monitoring/metrics",
        tag="Monitoring",
        summary="Record metrics of your own; the same ones twice within a minute are recorded once",
        writes=True,
        asks=answers.PostedBody,
        gives=answers.Posted,
        status=201,
        also={200: "The very same metrics were recorded within the last minute; nothing was added."},
        fails={503: "The history cannot be written now."},
    ),
    Operation(
        method="get",
        path="/monitoring/drift",
        tag="Monitoring",
        summary="See how the data of a day differs from its references, and the days before in short",
        parameters=(PAGE, SIZE, DATE),
        gives=answers.DriftAnswer,
        fails=WRONG_WORD,
    ),
    Operation(
        method="get",
        path="/monitoring/predictions",
        tag="Monitoring",
        summary="List what people were shown last, as it landed",
        writes=True,
        parameters=(PAGE, SIZE, RANKED_BY),
        gives=answers.PredictionsAnswer,
        fails=WRONG_WORD,
    ),
    Operation(
        method="get",
        path="/monitoring/pipeline-status",
        tag="Monitoring",
        summary="See the newest night, whether a run is under way, and when the next is due",
        gives=answers.PipelineStatus,
    ),
    Operation(
        method="post",
        path="/monitoring/run-pipeline",
        tag="Monitoring",
        summary="Begin a run of the pipeline",
        writes=True,
        bare=True,
        asks=answers.RunRequest,
        gives=answers.RunStarted,
        status=202,
        fails={
            409: "A run is under way.",
            503: "Airflow cannot be reached, or nothing here can run the pipeline.",
        },
    ),
    Operation(
        method="get",
        path="/metrics",
        tag="Operation",
        summary="Read the metrics for Prometheus",
        gives=None,
    ),
)


def document(routes: Iterable[BaseRoute], found: Sample) -> dict[str, Any]:
    """Describe the operations that `routes` serve as OpenAPI 3.1, with examples made of a sample."""
    served = {
        (method.lower(), route.path) for route in routes if isinstance(route, Route) for method in route.methods or ()
    }
    operations = [operation for operation in OPERATIONS if (operation.method, operation.path) in served]
    references, schemas = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    shown = examples(found)
    for operation in operations:
        example = shown[operation.method, operation.path]
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, example, references)
    key = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": version("ltr-pipeline"), "description": ABOUT},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": key}},
    }


def _described(operation: Operation, example: Example, references: Mapping[Any, Any]) -> dict[str, Any]:
    failures = (NEEDS_BODY if operation.asks else {}) | (NEEDS_KEY if operation.writes else {})
    good = {operation.status: "The answer."} | dict(operation.also)
    failures |= operation.fails
    kind = "application/json" if operation.gives else "text/plain"
    schema = references[operation.gives] if operation.gives else {"type": "string"}
    answers = {status: _content(text, kind, schema, example.gives) for status, text in good.items()}
    answers |= {
        status: _content(text, "application/json", references[wire.Failure], {"error": text})
        for status, text in failures.items()
    }
    described: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": operation.summary,
        "operationId": f"{operation.method}{operation.path.replace('/', '_')}",
        "responses": {str(status): answer for status, answer in sorted(answers.items())},
    }
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.writes:
        described["security"] = [{"key": []}, {}]  # on the service's own machine no key is needed while none is set
    if operation.asks:
        body = {"schema": references[operation.asks], "example": example.asks}
        described["requestBody"] = {"required": not operation.bare, "content": {"application/json": body}}
    return described


def _content(text: str, kind: str, schema: Any, example: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"description": text, "content": {kind: {"schema": schema, "example": example}}}


def _schemas(operations: Iterable[Operation]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Return the reference of each type, and the schemas that are referred to."""
    types = {kind for operation in operations for kind in (operation.asks, operation.gives) if kind} | {wire.Failure}
    ordered = sorted(types, key=str)
    references, schemas = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    for schema in schemas.values():
        _document_fields(schema)
    if "RankCandidate" in schemas:
        schemas["RankCandidate"]["properties"]["features"] = FEATURES
    return dict(zip(ordered, references, strict=True)), schemas


def _document_fields(schema: dict[str, Any]) -> None:
    """Move the texts about attributes from a docstring to the attributes themselves."""
    text, _, attributes = inspect.cleandoc(schema.get("description", "")).partition("\nAttributes\n----------\n")
    schema["description"] = text.strip()
    for name, meaning in _attributes(attributes):
        if name in schema["properties"]:
            schema["properties"][name]["description"] = meaning


def _attributes(text: str) -> Iterator[tuple[str, str]]:
    names, lines = "", []
    for line in [*text.splitlines(), "end"]:
        if line.startswith(" ") or not line:
            lines.append(line.strip())
            continue
        yield from ((name, " ".join(lines).strip()) for name in names.split(", ") if name)
        names, lines = line, []

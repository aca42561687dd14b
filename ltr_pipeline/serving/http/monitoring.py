"""`/monitoring/…`: what the history tells, for programs; and two writes, metrics and the wish for a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from ltr_pipeline.board.asked import day, paged, whole
from ltr_pipeline.board.predictions import of_version
from ltr_pipeline.errors import RequestError
from ltr_pipeline.serving import wire
from ltr_pipeline.serving.http.auth import RefusedError, is_local, known
from ltr_pipeline.serving.monitoring import answers

if TYPE_CHECKING:
    from ltr_pipeline.serving.http.app import Parts

__all__ = ["SIZE", "add_routes", "check_reader"]

SIZE: Final = 50
POSTED: Final = 50
LONGEST_VERSION: Final = 256


def add_routes(
    app: FastAPI,
    parts: Parts,
    writer: Callable[[Request], None],
    answer: Callable[..., Response],
) -> None:
    """Add the routes.

    Parameters
    ----------
    writer
        Raises an error unless the sender of a request may write.
    answer
        Makes a response of what is answered, and its status.
    """
    kept, runs = parts.kept, parts.runs

    @app.get("/monitoring/metrics")
    def metrics(request: Request) -> Response:
        number, size = _asked(request)
        facts = kept.facts()
        page = paged(facts.nights[::-1], number, size)
        found = answers.MetricsAnswer(
            current=facts.nights[-1] if facts.nights else None,
            history=list(page.items),
            posted=list(facts.posted[::-1][:POSTED]),
            page=number,
            size=size,
            total=page.total,
        )
        return answer(found)

    @app.get("/monitoring/drift")
    def drift(request: Request) -> Response:
        number, size = _asked(request, "date")
        date = day(request.query_params, "date")
        page = paged(kept.facts().drift[::-1], number, size)
        report = kept.report(date)
        found = answers.DriftAnswer(report=report, history=list(page.items), page=number, size=size, total=page.total)
        return answer(found)

    @app.get("/monitoring/predictions")
    def predictions(request: Request) -> Response:
        check_reader(request, parts.settings.keys)
        number, size = _asked(request, "version")
        version = request.query_params.get("version", "")
        if len(version) > LONGEST_VERSION:
            raise RequestError(f"version must have at most {LONGEST_VERSION} characters")
        page = paged(of_version(kept.lists(), version), number, size)
        found = answers.PredictionsAnswer(lists=list(page.items), page=number, size=size, total=page.total)
        return answer(found)

    @app.get("/monitoring/pipeline-status")
    def pipeline_status() -> Response:
        facts, standing = kept.facts(), runs.standing()
        last = facts.nights[-1] if facts.nights else None
        found = answers.PipelineStatus(
            version=parts.models.current.version,
            latest=facts.promoted,
            last_run=answers.LastRun(
                run=last.run, date=last.date, verdict=last.verdict, version=last.version, reason=last.reason
            )
            if last
            else None,
            running=standing.running,
            next_at=standing.next_at,
            said=standing.said,
        )
        return answer(found)

    @app.post("/monitoring/metrics")
    async def post_metrics(request: Request) -> Response:
        writer(request)
        found = answers.metrics_of(await parts.bodies.read(request))
        posted = await run_in_threadpool(kept.post, found)
        return answer(posted, 201 if posted.recorded else 200)

    @app.post("/monitoring/run-pipeline")
    async def run_pipeline(request: Request) -> Response:
        writer(request)
        asked = answers.RunRequest()
        if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
            asked = wire.decode(await parts.bodies.read(request), answers.RunRequest)
        return answer(await run_in_threadpool(runs.start, asked), 202)


def check_reader(request: Request, keys: Sequence[str]) -> None:
    """Raise RefusedError unless a program may read what names users: it has a key, or none is set and it is here."""
    if not keys:
        if not is_local(request.headers, request.client.host if request.client else None):
            raise RefusedError(403, "lists name users: they are told to this machine only while no key is set")
        return
    given = request.headers.get("x-api-key")
    if given is None:
        raise RefusedError(401, "lists name users: reading them needs a key; send it as X-API-Key")
    if not known(given, keys):
        raise RefusedError(403, "the key in X-API-Key is not known")


def _asked(request: Request, *more: str) -> tuple[int, int]:
    """Return which page is asked for, and its size; RequestError."""
    words: dict[str, Any] = dict(request.query_params)
    known_words = ("page", "size", *more)
    for word in words:
        if word not in known_words:
            raise RequestError(f"there is no parameter {word!r}; there are {', '.join(known_words)}")
    return whole(words, "page", 1), whole(words, "size", SIZE, answers.MOST_SIZE)

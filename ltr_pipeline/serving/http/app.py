"""The HTTP service. Bodies are read by msgspec, as reading them with the framework would take most of the time."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from ltr_pipeline.board.page import warm
from ltr_pipeline.errors import LtrError, RequestError
from ltr_pipeline.serving import prometheus, wire
from ltr_pipeline.serving.eventlog.recorder import BusyError, Recorder
from ltr_pipeline.serving.guard import Guard
from ltr_pipeline.serving.http import board, monitoring, openapi
from ltr_pipeline.serving.http.access import FACTS, Access
from ltr_pipeline.serving.http.auth import RefusedError, may_write
from ltr_pipeline.serving.http.bodies import JSON, Bodies, BodyError
from ltr_pipeline.serving.http.examples import Sample, sample
from ltr_pipeline.serving.logs import Facts, Logs
from ltr_pipeline.serving.monitoring.kept import Kept
from ltr_pipeline.serving.monitoring.runs import NotNowError, runs_of
from ltr_pipeline.serving.periodic import Periodic, look_for_nights
from ltr_pipeline.serving.ranking.order import Interleaver
from ltr_pipeline.serving.ranking.service import CERTAIN, CrowdedError, NoModelError, Service
from ltr_pipeline.serving.ranking.shadow import Shadow, ShadowRanking
from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.serving.weights.catalogue import Catalogue, NotListedError
from ltr_pipeline.serving.weights.models import Models, legacy
from ltr_pipeline.serving.weights.reload import Reloader
from ltr_pipeline.serving.weights.variants import Variants
from ltr_pipeline.serving.weights.workers import Workers
from ltr_pipeline.settings import load

__all__ = ["create_app"]

LONGEST_ERROR: Final = 1000  # characters; a message may quote what was sent

SWITCH_SECONDS: Final = 0.00002
"""Threads take turns after this time, not after Python's 5 ms: a scored request waits for others dozens of times."""


class Parts:
    """The parts of a process, made from its settings, started and stopped together."""

    def __init__(self, settings: ServingSettings) -> None:
        self.settings = settings
        self.models = Models(legacy(settings.mapping.legacy_weights))
        self.catalogue = Catalogue(settings.registry)
        self.reloader = Reloader(
            self.models,
            settings.source,
            seconds=settings.poll_seconds,
            guard=Guard(settings.guard),
            keys=settings.registry.documents.keys,
            workers=Workers.of_this_service(),
            roll_back=self.catalogue.roll_back if settings.auto_rollback else None,
        )
        self.logs = Logs(settings.log_folder, prometheus.LOG_DROPPED.inc)
        self.recorder = Recorder(settings)
        self.bodies = Bodies(settings.max_body_bytes, settings.body_seconds)
        self.variants = Variants([settings.shadow_version, settings.interleave_version], settings.registry, self.models)
        self.shadow = Shadow(self.variants, settings.shadow_version, self._log_shadow)
        self.kept = Kept(settings)
        self.runs = runs_of(settings)
        self.periodic = Periodic(
            settings.poll_seconds, [self.variants.poll, self._look_for_nights, warm, self.kept.refresh]
        )
        self.service = Service(settings, self.models, recorder=self.recorder, mixer=self._mixer(), shadow=self.shadow)

    def sample(self) -> Sample:
        """Return what requests to copy are made of now."""
        return sample(self.settings.mapping, self.models.current)

    def _look_for_nights(self) -> None:
        look_for_nights(self.settings.data, self.models.current.version)

    def _log_shadow(self, ranking: ShadowRanking) -> None:
        self.recorder.answered(ranking.answered_list())

    def _mixer(self) -> Interleaver:
        settings = self.settings
        return Interleaver(
            self.variants,
            settings.interleave_version,
            settings.interleave_share,
            seconds=settings.deadline_ms / 1000 / CERTAIN,
        )

    @asynccontextmanager
    async def running(self, _app: FastAPI) -> AsyncIterator[None]:
        """Start the parts, and stop them in reverse order."""
        sys.setswitchinterval(SWITCH_SECONDS)
        with self.logs:
            self.recorder.start()
            self.reloader.start()
            self.periodic.start()
            self.shadow.start()
            gc.collect()
            gc.freeze()  # objects made until now stay; collecting them again and again would delay requests
            try:
                yield
            finally:
                self.shadow.stop()
                self.kept.close()
                self.periodic.stop()
                self.reloader.stop()
                self.service.close()
                self.recorder.stop()


def create_app(settings: ServingSettings | None = None) -> FastAPI:
    """Make the service with these settings, by default those of the environment.

    Raises
    ------
    SettingsError
        A setting is wrong.
    """
    parts = Parts(settings or load(ServingSettings))
    app = FastAPIOffline(title=openapi.TITLE, lifespan=parts.running, redoc_url=None, redirect_slashes=False)
    described = lru_cache(maxsize=1)(lambda _model: openapi.document(app.routes, parts.sample()))
    app.openapi = lambda: described(parts.models.current.sha256)  # type: ignore[method-assign] # it knows no msgspec
    app.state.parts = parts
    app.add_middleware(Access, write=parts.logs.write, version=lambda: parts.models.current.version)
    _answer_errors(app)
    _add_routes(app, parts)
    return app


def _add_routes(app: FastAPI, parts: Parts) -> None:
    models = parts.models

    def writer(request: Request) -> None:
        may_write(request.headers, parts.settings.keys, request.client.host if request.client else None)

    _add_ranking_routes(app, parts, writer)
    _add_event_routes(app, parts, writer)
    monitoring.add_routes(app, parts, writer, _json)
    board.add_board(app, parts)

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/docs")  # a path alone: whatever `Host` says, it stays here

    @app.get("/ltr/health")
    async def health() -> Response:
        model = models.current
        age = time.time() - model.created_at.timestamp() if model.created_at else None
        return _json(
            wire.Health(
                status="live",
                version=model.version,
                model=model.kind,
                weights_age_seconds=age,
                source=parts.reloader.state.source,
                simulated=parts.settings.simulated,
                guard=parts.reloader.watch,
                pid=os.getpid(),
            )
        )

    @app.get("/ltr/ready")
    async def ready() -> Response:
        return _json(wire.Ready(ready=models.ready, version=models.current.version), 200 if models.ready else 503)

    @app.get("/api/debug/reload_weights")
    async def reload_state() -> Response:
        return _json(parts.reloader.report())

    @app.post("/api/debug/reload_weights")
    def reload_now(request: Request) -> Response:
        writer(request)
        return _json(parts.reloader.reload(force=_flag(request, "force")))

    @app.get("/ltr/versions")
    def versions() -> Response:
        return _json(parts.catalogue.report(models))

    @app.get("/metrics")
    async def exposition() -> Response:
        return Response(prometheus.render(), media_type="text/plain; version=0.0.4")


def _add_ranking_routes(app: FastAPI, parts: Parts, writer: Callable[[Request], None]) -> None:
    bodies, service = parts.bodies, parts.service

    async def rank(request: Request) -> Response:
        writer(request)
        with prometheus.IN_FLIGHT.track_inprogress():
            facts: Facts = request.scope[FACTS]
            body = await bodies.read(request)
            return _json(await service.rank(body, facts, shadow=request.headers.get("x-shadow-ltr") == "1"))

    app.router.add_route("/ltr/rank", rank, methods=["POST"])  # without FastAPI's dependencies: it has none

    @app.post("/ltr/explain")
    async def explain(request: Request) -> Response:
        writer(request)
        return _json(await service.explain(await bodies.read(request)))


def _add_event_routes(app: FastAPI, parts: Parts, writer: Callable[[Request], None]) -> None:
    bodies, recorder = parts.bodies, parts.recorder

    @app.post("/ltr/feedback")
    async def feedback(request: Request) -> Response:
        writer(request)
        asked = wire.decode(await bodies.read(request), wire.FeedbackRequest)
        return _json(wire.Recorded(accepted=recorder.feedback(asked)), 202)

    @app.post("/ltr/shown")
    async def shown(request: Request) -> Response:
        writer(request)
        asked = wire.decode(await bodies.read(request), wire.ShownRequest)
        return _json(wire.Recorded(accepted=recorder.shown(asked)), 202)


def _answer_errors(app: FastAPI) -> None:
    """Have every error answered as ``{"error": …}``."""

    @app.exception_handler(RequestError)
    async def wrong(_request: Request, error: Exception) -> Response:
        return _failure(error, 400 if isinstance(error, wire.NotJsonError) else 422)

    @app.exception_handler(BusyError)
    @app.exception_handler(NoModelError)
    @app.exception_handler(NotListedError)
    @app.exception_handler(LtrError)
    async def later(_request: Request, error: Exception) -> Response:
        return _failure(error, 503)

    @app.exception_handler(CrowdedError)
    async def crowded(_request: Request, error: Exception) -> Response:
        return _failure(error, 429, {"retry-after": "1"})

    @app.exception_handler(BodyError)
    @app.exception_handler(RefusedError)
    @app.exception_handler(NotNowError)
    async def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, BodyError | NotNowError | RefusedError)  # noqa: S101 - the framework sends no other
        return _failure(error, error.status)

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: Exception) -> Response:
        return _failure("the connection was closed in the middle of the body", 400)  # nobody reads it

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - the framework sends no other
        reason = f"{request.method} {request.url.path}: {HTTPStatus(error.status_code).phrase}; see /docs"
        headers = {"allow": _methods(app, request.url.path)} if error.status_code == 405 else error.headers
        return _failure(reason, error.status_code, headers)

    @app.exception_handler(Exception)
    async def broken(_request: Request, _error: Exception) -> Response:
        return _failure("the service had an error; its log has the details", 500)


def _flag(request: Request, name: str) -> bool:
    """Return whether a flag of the query is set; RequestError for anything but true and false."""
    given = request.query_params.getlist(name)
    if not set(given) <= {"true", "false"}:
        raise RequestError(f"{name} must be true or false")
    return given[-1:] == ["true"]


def _methods(app: FastAPI, path: str) -> str:
    """Return the methods of all routes of a path; the framework names only one route's."""
    routes = [route for route in app.routes if isinstance(route, Route) and route.path == path]
    found = {method for route in routes for method in route.methods or ()}
    return ", ".join(sorted(found | ({"HEAD"} if "GET" in found else set())))


def _failure(error: object, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return _json(wire.Failure(error=str(error)[:LONGEST_ERROR]), status, headers)


def _json(answer: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:  # noqa: ANN401
    return Response(msgspec.json.encode(answer), status, headers, JSON)

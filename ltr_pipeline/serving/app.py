"""The HTTP service. Bodies are read by msgspec, not by the framework: that is most of a request's time."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response

from ltr_pipeline.errors import RequestError
from ltr_pipeline.serving import metrics
from ltr_pipeline.serving.auth import RefusedError, may_write
from ltr_pipeline.serving.board import Board
from ltr_pipeline.serving.catalogue import Catalogue, NotListedError
from ltr_pipeline.serving.guard import Guard
from ltr_pipeline.serving.models import Models, legacy
from ltr_pipeline.serving.reload import Reloader
from ltr_pipeline.serving.service import Service
from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.settings import load

__all__ = ["create_app"]

JSON = "application/json"

SWITCH_SECONDS: Final = 0.0005
"""A thread that brings new weights lets requests go on after so long, not after Python's 5 ms."""


class TooLargeError(Exception):
    """A body with more bytes than are taken."""


class Parts:
    """What the process is made of; started and stopped with it."""

    def __init__(self, settings: ServingSettings) -> None:
        self.settings = settings
        self.models = Models(legacy(settings.legacy_weights))
        self.catalogue = Catalogue(settings.registry)
        self.reloader = Reloader(
            self.models,
            settings.source,
            seconds=settings.poll_seconds,
            guard=Guard(settings.guard),
            keys=settings.registry.keys,
            board=Board.of_this_service(),
            roll_back=self.catalogue.roll_back if settings.auto_rollback else None,
        )
        self.service = Service(settings, self.models)

    @asynccontextmanager
    async def running(self, _app: FastAPI) -> AsyncIterator[None]:
        """Start, and stop in the other order."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self.reloader.start()
        try:
            yield
        finally:
            self.reloader.stop()
            self.service.close()


def create_app(settings: ServingSettings | None = None) -> FastAPI:
    """Service with these settings, by default those of the environment.

    Raises
    ------
    SettingsError
        A setting is wrong.
    """
    parts = Parts(settings or load(ServingSettings))
    app = FastAPI(title="ltr-pipeline", lifespan=parts.running)
    app.state.parts = parts
    _answer_errors(app)
    _add_routes(app, parts)
    return app


def _add_routes(app: FastAPI, parts: Parts) -> None:
    settings, service, models = parts.settings, parts.service, parts.models

    def writer(request: Request) -> None:
        may_write(request.headers.get("x-api-key"), settings.keys, request.client.host if request.client else None)

    @app.post("/ltr/rank")
    async def rank(request: Request) -> Response:
        writer(request)
        with metrics.IN_FLIGHT.track_inprogress():
            return _json(await service.rank(await _body(request, settings.max_body_bytes)))

    @app.post("/ltr/explain")
    async def explain(request: Request) -> Response:
        return _json(service.explain(await _body(request, settings.max_body_bytes)))

    @app.get("/ltr/health")
    async def health() -> Response:
        model = models.current
        age = time.time() - model.created_at.timestamp() if model.created_at else None
        return _json(
            {
                "status": "live",
                "version": model.version,
                "model": model.kind,
                "weights_age_seconds": age,
                "source": parts.reloader.state.source,
                "guard": parts.reloader.watch,
                "pid": os.getpid(),
            }
        )

    @app.get("/ltr/ready")
    async def ready() -> Response:
        return _json({"ready": models.ready, "version": models.current.version}, 200 if models.ready else 503)

    @app.get("/api/debug/reload_weights")
    async def reload_state() -> Response:
        return _json(parts.reloader.report())

    @app.post("/api/debug/reload_weights")
    def reload_now(request: Request, force: bool = False) -> Response:
        writer(request)
        return _json(parts.reloader.reload(force=force))

    @app.get("/ltr/versions")
    def versions() -> Response:
        return _json(parts.catalogue.report(models))

    @app.get("/metrics")
    async def exposition() -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4")


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def wrong(_request: Request, error: Exception) -> Response:
        return _json({"error": str(error)}, 422)

    @app.exception_handler(TooLargeError)
    async def too_large(_request: Request, error: Exception) -> Response:
        return _json({"error": str(error)}, 413)

    @app.exception_handler(NotListedError)
    async def not_listed(_request: Request, error: Exception) -> Response:
        return _json({"error": str(error)}, 503)

    @app.exception_handler(RefusedError)
    async def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)  # noqa: S101 - the framework sends no other
        return _json({"error": str(error)}, error.status)


async def _body(request: Request, most: int) -> bytes:
    """Whole body of a request; TooLargeError as soon as it is."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise TooLargeError(f"the body is larger than {most} bytes (LTR_MAX_BODY_BYTES); send fewer candidates")
        parts.append(part)
    return b"".join(parts)


def _json(answer: Any, status: int = 200) -> Response:  # noqa: ANN401 - whatever msgspec encodes
    return Response(msgspec.json.encode(answer), status, media_type=JSON)

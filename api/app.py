"""The application: every route, over one Temporal client and one Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema
from redis.asyncio import Redis
from temporalio.client import Client

from api import (
    accelerators,
    applies,
    codec,
    codec_login,
    containers,
    execs,
    files,
    health,
    logs,
    offers,
    platforms,
    problems,
    resources,
    secrets,
    stats,
    users,
    verbs,
    watch,
)
from api.metered import Metered, census
from api.services import Services
from nebulous import __version__, metrics, sessions, tasks, temporal
from nebulous.settings import Settings

SURFACES = (containers.SURFACE, secrets.SURFACE)


def create_app(settings: Settings, client: Client | None = None, redis: Redis | None = None) -> FastAPI:
    """Build the application; without a client or a Redis it connects, lazily, to what the settings name."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with contextlib.AsyncExitStack() as stack:
            connected = client or await temporal.connect(
                settings.temporal_address,
                settings.temporal_namespace,
                settings=settings,
                lazy=True,
                runtime=metrics.runtime(settings.api_metrics, "NEBU_API_METRICS"),
            )
            if settings.api_metrics:
                counting = asyncio.create_task(census(connected))
                stack.push_async_callback(tasks.end, counting)
            streams = redis
            if streams is None:
                streams = sessions.connect(settings.redis_url or f"redis://127.0.0.1:{settings.redis_port}")
                stack.push_async_callback(streams.aclose)
            app.state.services = Services.over(settings, connected, streams)
            yield
            app.state.services.changes.close()

    app = FastAPI(
        title="Nebulous",
        version=__version__,
        description="Runs AI containers on whatever accelerator is free, on any cloud.",
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
    )
    problems.install(app)
    app.add_middleware(Metered)
    codec.let_in(app, settings.ui_origin)
    app.include_router(health.router())
    app.include_router(codec.router(settings))
    app.include_router(codec_login.router())
    for module in (users, platforms, accelerators, offers, logs, execs, files, stats):
        app.include_router(module.router())
    app.include_router(watch.router(SURFACES))
    for surface in SURFACES:
        app.include_router(resources.router(surface))
        app.include_router(applies.router(surface))
        app.include_router(verbs.router(surface))
    _document_bodies(app)
    return app


def _document_bodies(app: FastAPI) -> None:
    """Add the models of request bodies to the OpenAPI document; the routes read and check bodies themselves."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            document = generate()
            models = [(surface.kind.model, "validation") for surface in SURFACES]
            _, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")  # pyright: ignore[reportArgumentType]
            document.setdefault("components", {}).setdefault("schemas", {}).update(schemas["$defs"])
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi

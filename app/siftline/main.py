"""The service put together: the one place that knows all its parts."""

import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI
from sqlalchemy.orm import Session, sessionmaker

from siftline import web
from siftline.access.deps import OwnDetector, Parts
from siftline.access.gate import Gate
from siftline.access.keyring import Keyring
from siftline.access.rate import Rate
from siftline.access.rules import authorize
from siftline.api import errors, openapi
from siftline.api.crowd import Crowd
from siftline.api.frame import BodyLimit, Frame
from siftline.api.routes import (
    datasets,
    detectors,
    exports,
    images,
    jobs,
    keys,
    plots,
    purifications,
    reviews,
    scoring,
    system,
)
from siftline.dispatch import make_bell
from siftline.metrics import Metrics
from siftline.scoring.line import ScoringLine
from siftline.scoring.models import LOADS_AT_ONCE, DetectorModels
from siftline.services import scoring as scores
from siftline.settings import Settings
from siftline.store.blobs_open import open_blobs
from siftline.store.scope import Scope, scoped
from siftline.store.session import make_engine, session_factory
from siftline.store.spool import Spool

DESCRIPTION = (
    "Cleans the training sets of visual-inspection models: images in, a ranked clean/suspect split out."
)
THREADS = 16
"""For requests. Python runs one at a time; the others wait for the database or the disk."""
INGESTS_AT_ONCE = 4
PROBES_AT_ONCE = 2
OTHER_THREADS = INGESTS_AT_ONCE + LOADS_AT_ONCE + PROBES_AT_ONCE
# Routes are tried in this order, at some 10 µs each: first the one that CI waits for.
NOUNS = (scoring, datasets, purifications, reviews, exports, plots, detectors, images, jobs, keys, system)


def create_app(settings: Settings) -> FastAPI:
    """The API over a migrated database."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    # Whoever has a thread gets a connection at once: waiting is done in one place, where it can be refused.
    engine = make_engine(settings.sqlalchemy_url, connections=THREADS + OTHER_THREADS)
    parts = _put_together(settings, session_factory(engine))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        await to_thread.run_sync(parts.spool.open)
        yield
        parts.decoders.shutdown(cancel_futures=True)
        await to_thread.run_sync(parts.spool.close)
        engine.dispose()

    app = FastAPI(
        title="Siftline",
        version=version("siftline"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from a CDN: `web.manual` is ours
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(authorize)],
    )
    app.state.parts = parts
    for noun in NOUNS:
        app.include_router(noun.router)
    web.install(app)
    errors.install(app)
    openapi.install(app)
    app.add_middleware(BodyLimit, settings=settings)
    rate = Rate(settings.rate_per_s, settings.rate_burst)
    app.add_middleware(Gate, keyring=parts.keyring, rate=rate)
    app.add_middleware(Crowd, most_waiting=settings.waiting_requests)
    app.add_middleware(Frame, requests=parts.metrics.requests)  # added last: outermost
    return app


def _put_together(settings: Settings, sessions: sessionmaker[Session]) -> Parts:
    line = ScoringLine(settings.score_queue, settings.score_patience_s)
    models = DetectorModels[OwnDetector](
        lambda own: scores.load(_of_workspace(sessions, own), own[1]),
        lambda own: scores.require(_of_workspace(sessions, own), own[1]),
        settings.score_memory_bytes,
    )
    metrics = Metrics(sessions, settings.lease_s)
    metrics.watch_scoring(line, models)
    return Parts(
        settings=settings,
        sessions=sessions,
        blobs=open_blobs(settings),
        spool=Spool(settings.spool_dir),
        # Pillow's decoders let other threads run; more of them than processors would only need more memory.
        decoders=ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode"),
        bell=make_bell(settings),
        ingests=CapacityLimiter(INGESTS_AT_ONCE),
        probes=CapacityLimiter(PROBES_AT_ONCE),
        keyring=Keyring(settings, sessions),
        detectors=models,
        scoring=line,
        metrics=metrics,
    )


def _of_workspace(sessions: sessionmaker[Session], own: OwnDetector) -> sessionmaker[Session]:
    return scoped(sessions, Scope(own[0]))

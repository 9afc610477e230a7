"""A detector that is ready to score, made in milliseconds: a real ONNX network that nobody had to train."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sqlalchemy.orm import Session, sessionmaker
from uuid_utils.compat import uuid7

from siftline.domain.jobs import JobKind
from siftline.store import artifacts, jobs
from siftline.store.jobs import Claim
from siftline.store.models import Detector
from siftline.store.session import now, transaction
from tests.integration.job_steps import add_dataset

SIDE, GRID = 32, 7


def edges_onnx(seed: int = 0) -> bytes:
    """tile (1, 32, 32, 3) uint8 -> map (1, 7, 7), score (1,): two convolutions, so that rounding matters."""
    generator = np.random.default_rng(seed)
    weights: dict[str, NDArray[Any]] = {
        "filters": generator.normal(size=(16, 3, 8, 8)).astype(np.float32) / 1000,
        "mix": generator.normal(size=(1, 16, 1, 1)).astype(np.float32),
        "axes": np.array([1], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["tile"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["numbers"], ["pixels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["pixels", "filters"], ["edges"], strides=[4, 4]),
        helper.make_node("Relu", ["edges"], ["strong"]),
        helper.make_node("Conv", ["strong", "mix"], ["mixed"]),
        helper.make_node("Squeeze", ["mixed", "axes"], ["map"]),
        helper.make_node("ReduceMax", ["map"], ["highest"], keepdims=0),
        helper.make_node("Unsqueeze", ["highest", "first"], ["score"]),
    ]
    weights["first"] = np.array([0], dtype=np.int64)
    graph = helper.make_graph(
        nodes,
        "edges",
        [helper.make_tensor_value_info("tile", TensorProto.UINT8, [1, SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, GRID, GRID]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, [1]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def calibration_json(**changes: Any) -> bytes:
    scores = np.linspace(0.2, 2.0, 50, dtype=np.float32)
    card = {
        "method": "for a test",
        "n": len(scores),
        "in_sample": False,
        "version": 1,
        "date": "2026-11-22T00:00:00Z",
        "target_fpr": 0.01,
        "review_fpr": 0.05,
        "threshold": float(scores[-1]),
        "review_threshold": float(scores[-2]),
    }
    told = {
        "schema_version": 1,
        "side": SIDE,
        "grid": GRID,
        "tone": None,
        "map_scale": [0.0, float(scores[-1])],
        "threshold": card["threshold"],
        "review_threshold": card["review_threshold"],
        "scores": [float(score) for score in scores],
        "card": card,
    }
    return json.dumps(told | changes).encode()


@dataclass(frozen=True, slots=True)
class Ready:
    id: UUID
    dataset_id: UUID
    onnx: bytes


def add_detector(
    sessions: sessionmaker[Session],
    folder: Path,
    *,
    seed: int = 0,
    model: bytes | None = None,
    **changes: Any,
) -> Ready:
    """A detector whose training has succeeded; `changes` go into its calibration.json."""
    made = add_untrained(sessions)
    content = model or edges_onnx(seed)
    folder.mkdir(parents=True, exist_ok=True)
    with transaction(sessions) as session:
        job_id = session.get_one(Detector, made.id).job_id
        job = jobs.claim(session, job_id, "trainer", 60.0)
        assert job is not None
        for name, data in (("model.onnx", content), ("calibration.json", calibration_json(**changes))):
            path = folder / f"{made.id}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
            path.write_bytes(data)
            artifacts.write(
                session, made.id, name, path, media_type="application/octet-stream", schema_version=1,
                max_bytes=2**30,
            )  # fmt: skip
        jobs.succeed(session, Claim(job_id, "trainer", job.attempt), {})
    return Ready(made.id, made.dataset_id, content)


def add_untrained(sessions: sessionmaker[Session]) -> Ready:
    """A detector whose training has not begun."""
    dataset_id, detector_id = add_dataset(sessions), uuid7()
    with transaction(sessions) as session:
        job = jobs.create(session, dataset_id, JobKind.TRAIN, {}, detector_id=detector_id)
        session.add(
            Detector(
                id=detector_id,
                dataset_id=dataset_id,
                job_id=job.id,
                version=1,
                name="edges",
                method="funad",
                options={},
                created_at=now(session),
            )
        )
    return Ready(detector_id, dataset_id, b"")

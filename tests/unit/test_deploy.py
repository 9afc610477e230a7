"""The Kubernetes manifests fit the API's schema and keep to what we promise of containers."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped]  # comes with kubernetes-validate, without types

from siftline.settings import Settings

FOLDER = Path(__file__).parents[2] / "deploy" / "k8s"
OF_COMPOSE_ONLY = {"SIFTLINE_DB_PASSWORD", "SIFTLINE_PUBLISHED_PORT", "SIFTLINE_WEIGHTS"}
FILES = sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")


def documents() -> Iterator[Any]:
    for name in FILES:
        yield from yaml.safe_load_all((FOLDER / name).read_text())


def pods() -> Iterator[tuple[str, Any]]:
    for document in documents():
        if document["kind"] in ("Deployment", "Job"):
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", FILES)
def test_a_manifest_fits_the_schema(name: str) -> None:
    for document in yaml.safe_load_all((FOLDER / name).read_text()):
        kubernetes_validate.validate(document, "1.37", strict=True)


def test_every_manifest_is_listed_but_what_is_filled_in_by_hand() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert {*listed, "secret.example.yaml", "worker-gpu.yaml"} == set(FILES)


def test_no_container_is_root_or_may_write_to_its_image_or_take_all_memory() -> None:
    found = dict(pods())
    assert len(found) == 6
    for name, pod in found.items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert {"memory", "ephemeral-storage"} <= set(container["resources"]["limits"]), name


def test_every_setting_that_a_file_names_is_one() -> None:
    compose = (FOLDER.parents[1] / "docker-compose.yml").read_text()
    text = compose + "".join((FOLDER / name).read_text() for name in FILES)
    named = set(re.findall(r"\bSIFTLINE_[A-Z0-9_]+", text)) - OF_COMPOSE_ONLY
    assert named <= {f"SIFTLINE_{name.upper()}" for name in Settings.model_fields}
    assert len(named) > 10

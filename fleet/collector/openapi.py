# SPDX-License-Identifier: Apache-2.0
"""What does /openapi.json say? What the framework knows of the endpoints, and the bodies they read."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from litestar import Controller, Litestar
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Operation

from agent.model import canonical, wire


def document(controllers: Sequence[type[Controller]]) -> bytes:
    """The OpenAPI document of these endpoints."""
    # An application of its own, which never serves: serving the document, the framework answers in HTML
    # beside it.
    config = OpenAPIConfig(
        title="Cryptofleet collector",
        version=importlib.metadata.version("cryptofleet"),
        summary="What agents say to a collector, and what it answers.",
        description=f"Every answer carries {wire.PACE_HEADER}; from 400 on it is a problem (RFC 9457).",
        create_examples=False,
    )
    app = Litestar(list(controllers), openapi_config=config, logging_config=None)
    return canonical.encode(app.openapi_schema.to_schema())


def problems(*names: str) -> dict[int, ResponseSpec]:
    """Response specifications of the problems an endpoint can answer, by status."""
    found: dict[int, list[str]] = {}
    for name in names:
        found.setdefault(wire.PROBLEMS[name][0], []).append(name)
    return {
        status: ResponseSpec(
            wire.Problem,
            generate_examples=False,
            description=", ".join(same),
            media_type=wire.MEDIA_PROBLEM,
        )
        for status, same in found.items()
    }


def answer(kind: type[msgspec.Struct] | None, description: str) -> ResponseSpec:
    """Response specification of a success."""
    return ResponseSpec(kind, generate_examples=False, description=description)


def body(shape: Mapping[str, Any] | type[msgspec.Struct], description: str) -> type[Operation]:
    """An operation class whose request body is JSON of this type or JSON Schema, plain or gzip."""

    class WithBody(Operation):
        def to_schema(self) -> dict[str, Any]:
            content = {
                wire.MEDIA_JSON: {"schema": _inlined(shape) if isinstance(shape, type) else dict(shape)}
            }
            return {
                **super().to_schema(),
                "requestBody": {"content": content, "description": description, "required": True},
            }

    return WithBody


def _inlined(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON Schema of a type, its parts' schemas in place, so that no reference leads out of it."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template="{name}")

    def resolve(node: Any) -> Any:  # noqa: ANN401 - any JSON
        if isinstance(node, dict):
            return (
                resolve(components[node["$ref"]])
                if "$ref" in node
                else {k: resolve(v) for k, v in node.items()}
            )
        return [resolve(one) for one in node] if isinstance(node, list) else node

    found = resolve(schema)
    assert isinstance(found, dict)
    return found

"""How the OpenAPI document describes our keys and their limits. Importing this registers the first."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from accounts.permissions import scope_for


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.authentication.BearerAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "An API key, as `POST /api/keys` gives it."}

    def get_security_requirement(self, auto_schema: AutoSchema) -> dict[str, list[str]]:
        """With the scope that the operation needs: what OpenAPI 3.1 calls a role."""
        return {self.name: [scope_for(auto_schema.method, auto_schema.view)]}


HEADERS = {
    "RateLimit-Limit": "How many requests this key, or the sessions of this user, may make in a minute.",
    "RateLimit-Remaining": "How many of them are left.",
    "RateLimit-Reset": "In how many seconds all of them are there again.",
    "RateLimit-Policy": "The limit, and the seconds that it is for: `1200;w=60`.",
    "Retry-After": "In how many seconds to ask again.",
}


def describe_limits(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A postprocessing hook: what the answers tell of the limits, where requests are counted."""
    result["components"]["headers"] = {
        name: {"description": text, "schema": {"type": "string" if name == "RateLimit-Policy" else "integer"}}
        for name, text in HEADERS.items()
    }
    for operation in (operation for path in result["paths"].values() for operation in path.values()):
        if "429" in operation["responses"]:
            for status, response in operation["responses"].items():
                response.setdefault("headers", {}).update(_headers_with(status))
    return result


def _headers_with(status: str) -> dict[str, Any]:
    told = [name for name in HEADERS if (status == "429" if name == "Retry-After" else status != "401")]
    return {name: {"$ref": f"#/components/headers/{name}"} for name in told}

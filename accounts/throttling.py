"""Who asks too often, or fails too often: the same for REST, event streams and sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from asgiref.sync import iscoroutinefunction
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.addresses import network_of
from accounts.permissions import key_of
from accounts.rates import WINDOW_SECONDS, Quota, Rate

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which reads the settings that name this module

    from accounts.models import ApiKey, User

_requests = Rate("requests", "CHAT_REQUESTS_PER_MINUTE")
_failures = Rate("failures", "AUTH_FAILURES_PER_MINUTE")


class RequestThrottle(BaseThrottle):
    """So many requests a minute by one key, or by the sessions of one user. Strangers are not counted.

    A request counts once, however often this is asked about it (accounts/permissions.py does before DRF).
    """

    def allow_request(self, request: Request, view: APIView) -> bool:
        http: Any = request._request
        if not hasattr(http, "quota"):
            http.quota = _count(request.user, key_of(request))
        self.quota: Quota | None = http.quota
        return self.quota is None or not self.quota.is_exceeded

    def wait(self) -> float | None:
        return self.quota.reset_seconds if self.quota else None


def admit(user: User, key: ApiKey | None) -> None:
    """Counts what is no HTTP request as one. Raises Throttled."""
    _must_be_within(_count(user, key))


def refuse(address: str | None, detail: str) -> NoReturn:
    """Of wrong credentials, which count against the address. Raises AuthenticationFailed, or Throttled if too many."""
    _must_be_within(_failures.count(network_of(address)))
    raise AuthenticationFailed(detail)


def has_failed_too_often(address: str | None) -> bool:
    quota = _failures.look(network_of(address))
    return quota is not None and not quota.remaining


@sync_and_async_middleware
def rate_limit_headers(get_response: Any) -> Any:
    """The middleware that tells what is left, on whatever became of a request that was counted."""
    if iscoroutinefunction(get_response):

        async def respond_async(request: HttpRequest) -> HttpResponseBase:
            return _with_headers(await get_response(request), request)

        return respond_async

    def respond(request: HttpRequest) -> HttpResponseBase:
        return _with_headers(get_response(request), request)

    return respond


def _with_headers(response: HttpResponseBase, request: HttpRequest) -> HttpResponseBase:
    quota: Quota | None = getattr(request, "quota", None)
    if quota:
        response["RateLimit-Limit"] = str(quota.limit)
        response["RateLimit-Remaining"] = str(quota.remaining)
        response["RateLimit-Reset"] = str(quota.reset_seconds)
        response["RateLimit-Policy"] = f"{quota.limit};w={WINDOW_SECONDS}"
    return response


def _count(user: User | AnonymousUser, key: ApiKey | None) -> Quota | None:
    if key is not None:
        return _requests.count(f"key:{key.pk}")
    return _requests.count(f"user:{user.pk}") if user.is_authenticated else None


def _must_be_within(quota: Quota | None) -> None:
    if quota and quota.is_exceeded:
        raise Throttled(quota.reset_seconds)

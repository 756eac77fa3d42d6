"""Who types wrong passwords too often is locked out of the admin for a while, and sees when to come back.

django-axes counts those for one name from one address, in the database. All that come from one address are counted like
its wrong keys: who tries a name after the other has the server spend a hash on each.
"""

from datetime import datetime, timedelta
from math import ceil

from axes.attempts import get_cool_off_threshold
from axes.handlers.database import AxesDatabaseHandler
from axes.helpers import get_client_username, get_cool_off, get_failure_limit
from axes.models import AccessAttempt
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.crypto import salted_hmac

from accounts.addresses import address_of, network_of
from accounts.models import User
from accounts.rates import Rate

_passwords = Rate("passwords", "AUTH_FAILURES_PER_MINUTE")


class LockoutHandler(AxesDatabaseHandler):  # type: ignore[misc]  # axes has no types
    def is_locked(self, request: HttpRequest, credentials: dict[str, str] | None = None) -> bool:
        return bool(_seconds_for_address(request)) or super().is_locked(request, credentials)

    def user_login_failed(
        self, sender: object, credentials: dict[str, str], request: HttpRequest | None = None, **kwargs: object
    ) -> None:
        if request and not request.axes_locked_out:  # type: ignore[attr-defined]  # axes notes it there
            _passwords.count(network_of(address_of(request)))
        super().user_login_failed(sender, credentials, request, **kwargs)


def counted_name(_request: HttpRequest, credentials: dict[str, str]) -> str:
    """By what name attempts are kept. Where no user has it, it may be a password in the wrong field."""
    name = credentials["username"]
    if User.objects.filter(username=name).exists():
        return name
    return f"unknown {salted_hmac('accounts.lockout', name).hexdigest()[:16]}"


def locked_out(request: HttpRequest, _response: HttpResponse, credentials: dict[str, str]) -> HttpResponse:
    """In place of the login form."""
    for_name = ceil((_end(request, credentials) - timezone.now()).total_seconds())
    seconds = max(1, for_name, _seconds_for_address(request))
    context = {
        **admin.site.each_context(request),
        "title": "Locked out",
        "minutes": ceil(seconds / 60),
        "can_be_let_in": for_name == seconds,
    }
    page = render(request, "accounts/locked_out.html", context, status=429)
    page["Retry-After"] = str(seconds)
    add_never_cache_headers(page)
    return page


def _end(request: HttpRequest, credentials: dict[str, str]) -> datetime:
    """When enough of the failures will be forgotten. Each browser has a row, with the time of its last one."""
    cool_off: timedelta = get_cool_off(request)
    attempts = AccessAttempt.objects.filter(
        username=get_client_username(request, credentials),
        ip_address=request.axes_ip_address,  # type: ignore[attr-defined]  # axes notes it there
        attempt_time__gte=get_cool_off_threshold(request),
    )
    left = sum(attempt.failures_since_start for attempt in attempts)
    end = timezone.now()
    for attempt in attempts.order_by("attempt_time"):
        if left < get_failure_limit(request, credentials):
            break
        left -= attempt.failures_since_start
        end = attempt.attempt_time + cool_off
    return end


def _seconds_for_address(request: HttpRequest) -> int:
    """Until more may be tried from there. 0: they may now."""
    quota = _passwords.look(network_of(address_of(request)))
    return quota.reset_seconds if quota and not quota.remaining else 0

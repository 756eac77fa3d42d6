"""What people see who typed a wrong password too often. django-axes counts: in the database, for all processes."""

from datetime import datetime, timedelta
from math import ceil

from axes.attempts import get_cool_off_threshold
from axes.helpers import get_client_username, get_cool_off, get_failure_limit
from axes.models import AccessAttempt
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.crypto import salted_hmac

from accounts.models import User


def counted_name(_request: HttpRequest, credentials: dict[str, str]) -> str:
    """By what name attempts are kept. Where no user has it, it may be a password in the wrong field."""
    name = credentials["username"]
    if User.objects.filter(username=name).exists():
        return name
    return f"unknown {salted_hmac('accounts.lockout', name).hexdigest()[:16]}"


def locked_out(request: HttpRequest, _response: HttpResponse, credentials: dict[str, str]) -> HttpResponse:
    """In place of the login form."""
    seconds = max(1, ceil((_end(request, credentials) - timezone.now()).total_seconds()))
    context = {**admin.site.each_context(request), "title": "Locked out", "minutes": ceil(seconds / 60)}
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

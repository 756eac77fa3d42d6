from __future__ import annotations

from typing import TYPE_CHECKING, cast

from django.contrib.auth.models import AnonymousUser
from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from accounts.errors import ScopeRequired
from accounts.models import ApiKey, User

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which reads the settings that name this module

Scope = ApiKey.Scope


def key_of(request: Request) -> ApiKey | None:
    """None for a session."""
    return cast("ApiKey | None", request.auth)


def user_of(request: Request) -> User:
    """Who asks. Only behind a permission that has refused everyone else."""
    return cast("User", request.user)


def granted_scopes(user: User | AnonymousUser, key: ApiKey | None) -> frozenset[str]:
    """What a request may do: as much as its key, or, for a session (`key` None), as its user."""
    if key is not None:
        return frozenset(key.scopes)
    if not user.is_authenticated:
        return frozenset()
    return frozenset(Scope) if user.is_staff else frozenset({Scope.READ, Scope.WRITE})


def require_scope(scope: str, user: User | AnonymousUser, key: ApiKey | None) -> None:
    if scope not in granted_scopes(user, key):
        raise ScopeRequired(scope)


class HasScope(BasePermission):
    """Reading needs `read`, everything else `write`, unless the view says otherwise.

    It does so by action name or lower-case method: `required_scopes = {"search": "read", "pull": "admin"}`.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            raise NotAuthenticated
        view.check_throttles(request)  # DRF does so after the permissions, and would not count what these refuse
        require_scope(scope_for(str(request.method), view), request.user, key_of(request))
        return True


def scope_for(method: str, view: APIView) -> str:
    declared: dict[str, str] = getattr(view, "required_scopes", {})
    # A view without a `head` answers it with its `get`, and so on the same terms.
    handler = "get" if method == "HEAD" else method.lower()
    for name in (getattr(view, "action", None), handler):
        if name in declared:
            return declared[name]
    return Scope.READ if method in SAFE_METHODS else Scope.WRITE

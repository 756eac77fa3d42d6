from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounts import keys
from accounts.addresses import address_of
from accounts.models import ApiKey, User


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <key>`. Anything else is left to the next class. `request.auth` is the ApiKey."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        secret = keys.secret_in(request.headers.get("Authorization", ""))
        if secret is None:
            return None
        key = keys.authenticate(secret, address_of(request))
        return key.user, key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"

import pytest
from django.contrib.auth.hashers import BCryptSHA256PasswordHasher
from rest_framework.test import APIClient

from accounts.models import ApiKey


@pytest.fixture
def key_and_secret(alice) -> tuple[ApiKey, str]:
    return ApiKey.objects.issue(alice, name="laptop", scopes=["read", "write"])


@pytest.fixture
def key(key_and_secret):
    return key_and_secret[0]


@pytest.fixture
def secret(key_and_secret):
    return key_and_secret[1]


@pytest.fixture
def hash_checks(monkeypatch) -> list[str]:
    """Every hash that bcrypt was asked about."""
    asked = []
    verify = BCryptSHA256PasswordHasher.verify

    def counted(hasher, password, encoded):
        asked.append(encoded)
        return verify(hasher, password, encoded)

    monkeypatch.setattr(BCryptSHA256PasswordHasher, "verify", counted)
    return asked


def ask_with(authorization: str | None):
    """Knock at the front door with this Authorization header."""
    headers = {} if authorization is None else {"authorization": authorization}
    return APIClient().get("/api/keys", headers=headers)


def error_code(response):
    """The code of the one error, told in the shape all errors have."""
    body = response.json()
    assert set(body) == {"type", "errors"}
    [error] = body["errors"]
    assert set(error) == {"code", "detail", "attr"}
    return error["code"]

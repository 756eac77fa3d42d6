"""The admin's session opens the API too."""

import pytest
from rest_framework.test import APIClient

from accounts.models import ApiKey
from tests.accounts.conftest import error_code


@pytest.fixture
def browser(alice) -> APIClient:
    browser = APIClient(enforce_csrf_checks=True)
    browser.force_login(alice)
    return browser


def test_a_session_may_read(browser):
    assert browser.get("/api/keys").status_code == 200


def test_a_session_without_csrf_token_may_not_write(browser):
    response = browser.post("/api/keys", {"name": "forged"})

    assert response.status_code == 403
    assert error_code(response) == "permission_denied"
    assert not ApiKey.objects.exists()


def test_a_session_with_csrf_token_may_write(browser):
    token = "a" * 32
    browser.cookies["csrftoken"] = token

    response = browser.post("/api/keys", {"name": "laptop"}, headers={"x-csrftoken": token})

    assert response.status_code == 201
    assert response.json()["scopes"] == ["read", "write"]


def test_a_key_needs_no_csrf_token(secret):
    program = APIClient(enforce_csrf_checks=True)

    response = program.post("/api/keys", {"name": "second"}, headers={"authorization": f"Bearer {secret}"})

    assert response.status_code == 201


def test_a_bad_key_is_refused_although_the_session_is_good(browser):
    response = browser.get("/api/keys", headers={"authorization": "Bearer nonsense"})

    assert response.status_code == 401


def test_only_staff_gets_admin_by_session(browser, alice):
    browser.handler.enforce_csrf_checks = False
    assert browser.post("/api/keys", {"name": "a", "scopes": ["admin"]}).status_code == 403

    alice.is_staff = True
    alice.save(update_fields=["is_staff"])
    assert browser.post("/api/keys", {"name": "a", "scopes": ["admin"]}).status_code == 201

"""The admin's session opens the API too."""

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import ApiKey, User
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


class TestAtTheAdmin:
    @pytest.fixture
    def operator(self, db) -> User:
        return User.objects.create_superuser("operator", password=PASSWORD)

    @pytest.fixture
    def browser(self, operator) -> Client:
        browser = Client()
        log_in(browser)
        return browser

    def test_the_cookie_is_for_our_pages_alone_and_no_script_reads_it(self, browser):
        cookie = browser.cookies["sessionid"]

        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"
        assert browser.cookies["csrftoken"]["samesite"] == "Lax"

    def test_over_https_the_cookie_goes_over_nothing_else(self, operator, settings):
        settings.SESSION_COOKIE_SECURE = True
        browser = Client()
        log_in(browser)

        assert browser.cookies["sessionid"]["secure"]

    def test_a_session_that_was_there_before_is_not_taken_over(self, operator):
        """Else whoever had planted it would be logged in too."""
        store = SessionStore()
        store.create()
        planted = str(store.session_key)
        browser = with_session(planted)
        log_in(browser)

        assert browser.cookies["sessionid"].value != planted
        assert is_in(browser)
        assert not is_in(with_session(planted))

    def test_logging_out_ends_the_session_and_not_only_the_cookie(self, browser):
        copied = with_session(browser.cookies["sessionid"].value)
        assert is_in(copied)

        browser.post("/admin/logout/")

        assert not is_in(copied)

    def test_another_password_ends_the_other_sessions(self, browser):
        elsewhere = Client()
        log_in(elsewhere)
        form = {"old_password": PASSWORD, "new_password1": "a quite new secret", "new_password2": "a quite new secret"}

        assert browser.post("/admin/password_change/", form).status_code == 302

        assert is_in(browser)
        assert not is_in(elsewhere)

    def test_who_is_no_longer_active_is_out_at_once(self, browser, operator):
        operator.is_active = False
        operator.save(update_fields=["is_active"])

        assert not is_in(browser)

    def test_an_unknown_name_takes_as_long_as_a_wrong_password(self, operator, monkeypatch):
        """For each of them a password is hashed, once."""
        hashed = []
        plain = MD5PasswordHasher.encode

        def encode(*args):
            hashed.append(1)
            return plain(*args)

        monkeypatch.setattr(MD5PasswordHasher, "encode", encode)

        for name in ("operator", "nobody"):
            hashed.clear()
            assert log_in(Client(), name, "wrong").status_code == 200
            assert len(hashed) == 1

    def test_passwords_that_are_easily_guessed_are_not_taken(self, browser):
        for password in ("short", "password1", "12345678901", "operator1"):
            form = {"old_password": PASSWORD, "new_password1": password, "new_password2": password}
            assert browser.post("/admin/password_change/", form).status_code == 200, password

    def test_nobody_is_led_elsewhere_after_logging_in(self, operator):
        form = {"username": "operator", "password": PASSWORD, "next": "https://evil.example/"}

        assert not Client().post("/admin/login/", form)["Location"].startswith("http")


PASSWORD = "correct horse battery"


def log_in(browser: Client, name: str = "operator", password: str = PASSWORD):
    return browser.post("/admin/login/", {"username": name, "password": password, "next": "/admin/"})


def with_session(session_key: str) -> Client:
    browser = Client()
    browser.cookies["sessionid"] = session_key
    return browser


def is_in(browser: Client) -> bool:
    """At the admin, and at the API."""
    answers = {browser.get("/admin/").status_code, browser.get("/api/keys").status_code}
    assert answers in ({200}, {302, 401})
    return answers == {200}

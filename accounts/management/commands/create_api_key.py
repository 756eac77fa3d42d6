import re
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from accounts.models import ApiKey, User

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Command(BaseCommand):
    help = "Makes an API key for a user and prints it, and nothing else, on stdout. It cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--create-user", action="store_true", help="Make the user, without a password, if missing.")
        parser.add_argument("--name", default="command line", help="What the key is for.")
        parser.add_argument("--scopes", default="read,write", help="Of read, write, admin; separated by commas.")
        parser.add_argument("--expires-in", metavar="90d", help="A number and m, h, d or w. Without: never.")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> str:
        expires_in = options["expires_in"]
        _key, secret = ApiKey.objects.issue(
            self.user(options["username"], create=options["create_user"]),
            name=parse_name(options["name"]),
            scopes=parse_scopes(options["scopes"]),
            expires_at=parse_expiry(expires_in) if expires_in else None,
        )
        return secret

    def user(self, username: str, *, create: bool) -> User:
        username = User.normalize_username(username)
        user = User.objects.filter(username=username).first()
        if user is None and not create:
            raise CommandError(f'There is no user "{username}". To make one, add --create-user.')
        return user or self.create_user(username)

    def create_user(self, username: str) -> User:
        user = User(username=username)
        user.set_unusable_password()
        try:
            user.full_clean()
        except ValidationError as exc:
            raise CommandError(f'"{username}" cannot be a user: {" ".join(exc.messages)}') from exc
        user.save()
        self.stderr.write(f'Made the user "{username}", without a password.', style_func=self.style.SUCCESS)
        return user


def parse_name(name: str) -> str:
    try:
        return str(ApiKey._meta.get_field("name").clean(name, None))
    except ValidationError as exc:
        raise CommandError(f"--name: {' '.join(exc.messages)}") from exc


def parse_scopes(listed: str) -> list[str]:
    scopes = list(dict.fromkeys(scope.strip() for scope in listed.split(",")))
    for scope in scopes:
        if scope not in ApiKey.Scope.values:
            raise CommandError(f'"{scope}" is not a scope. There are: {", ".join(ApiKey.Scope.values)}.')
    return scopes


def parse_expiry(duration: str) -> datetime:
    shape = re.fullmatch(r"([1-9][0-9]*)([mhdw])", duration)
    if shape is None:
        raise CommandError(f'"{duration}" is not a duration. Write 30m, 12h, 90d or 2w.')
    try:
        return timezone.now() + timedelta(**{UNITS[shape[2]]: int(shape[1])})
    except (OverflowError, ValueError) as exc:
        raise CommandError(f'"{duration}" is longer than a calendar reaches.') from exc

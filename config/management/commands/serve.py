import secrets
from argparse import ArgumentParser
from typing import Any

from daphne.endpoints import build_endpoint_description_strings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, transaction

from accounts.models import ApiKey, User
from config.runs import reap


class Command(BaseCommand):
    help = "Set up what is missing, then serve. On the first run, make the user `admin` and an API key."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: object, host: str, port: int, **options: Any) -> None:
        try:
            call_command("migrate", verbosity=0)
        except OperationalError as exc:
            raise CommandError(f"Cannot use the database: {exc}".strip()) from exc
        if not User.objects.exists():
            self.first_run(host, port)
        reap()  # before anyone can meet a conversation that a killed server has left busy
        self.serve(host, port)

    def first_run(self, host: str, port: int) -> None:
        password = secrets.token_urlsafe(12)
        with transaction.atomic():
            admin = User.objects.create_superuser("admin", password=password)
            _key, secret = ApiKey.objects.issue(admin, name="first key", scopes=list(ApiKey.Scope))
        self.say(
            f"\n  Admin     http://{host}:{port}/admin/\n"
            f"  User      admin\n"
            f"  Password  {password}\n"
            f"  API key   {secret}\n\n"
            "  Keep these: they are not shown again.\n"
        )

    def serve(self, host: str, port: int) -> None:
        from config.asgi import application
        from config.server import Server

        server = Server(application, build_endpoint_description_strings(host=host, port=port))
        server.on_listening = lambda: self.say(f"Colloquy serves at http://{host}:{port} (Ctrl-C ends it).")
        server.run()
        if not server.has_listened:
            raise CommandError(f"Cannot listen on {host}:{port}. Is something else there? Try: make serve PORT=8001")

    def say(self, text: str) -> None:
        """At once, for standard output may be a pipe or a file, and what is shown is shown once."""
        self.stdout.write(text)
        self.stdout.flush()

from django.core.management.base import BaseCommand

from chat.reaper import reap


class Command(BaseCommand):
    help = "Mark as interrupted the replies whose server process is no more. A running server does so by itself."

    def handle(self, *args: object, **options: object) -> str:
        return f"{reap()} interrupted."

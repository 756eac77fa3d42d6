"""The ASGI application: Channels for the streams and the sockets, Django's handler for everything else."""

# ruff: noqa: E402 (Django is set up before what needs its models)

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django_application = get_asgi_application()

from asgi_correlation_id import CorrelationIdMiddleware
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import WebsocketDenier
from django.urls import re_path

from chat.routing import http_urlpatterns, websocket_urlpatterns
from config import server
from config.access import AccessLog
from config.bodies import BodyLimit
from config.lifespan import Lifespan
from config.origins import KnownOrigins

everything_else = re_path(r"", django_application)  # type: ignore[arg-type]  # Channels routes to applications
no_such_socket = re_path(r"", WebsocketDenier.as_asgi())

application = CorrelationIdMiddleware(
    ProtocolTypeRouter(
        {
            "http": AccessLog(BodyLimit(URLRouter([*http_urlpatterns, everything_else]))),
            "websocket": AccessLog(KnownOrigins(URLRouter([*websocket_urlpatterns, no_such_socket]))),
            "lifespan": Lifespan(),
        }
    )
)

server.use()

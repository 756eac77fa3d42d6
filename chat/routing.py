"""The paths that Channels serves; Django's own handler has the rest."""

from django.urls import path

from chat.websocket import ChatConsumer
from streams.sse import EventStreamConsumer

http_urlpatterns = [
    path("api/chat/stream", EventStreamConsumer.as_asgi()),
    path("api/chat/generations/<uuid:pk>/events", EventStreamConsumer.as_asgi()),
]

websocket_urlpatterns = [
    path("ws/chat", ChatConsumer.as_asgi()),
]

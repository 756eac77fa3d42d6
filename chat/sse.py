"""The SSE doors: start a reply and watch it, or watch one that runs. See streams/sse.py for how they are served."""

from functools import partial
from uuid import UUID

from django.http.response import HttpResponse, HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.models import ApiKey, User
from accounts.permissions import user_of
from chat import schema, tickets
from chat.ask import Ask
from chat.engine import engine
from chat.models import Generation
from streams.sse import KEEP_ALIVE_SECONDS, EventStreamResponse

LONGEST_IDEMPOTENCY_KEY = 200


class TicketAuthentication(BaseAuthentication):
    """`?ticket=` of an EventSource, for the one generation that it was made for."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey | None] | None:
        ticket = request.query_params.get("ticket")
        if ticket is None:
            return None
        return tickets.open_events(ticket, request.parser_context["kwargs"]["pk"])

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class ReplyStreamView(APIView):
    @extend_schema(**schema.CHAT_STREAM)
    def post(self, request: Request) -> HttpResponseBase:
        """Start a reply and watch it."""
        ask = Ask.of(request.data)
        generation = engine.begin(user_of(request), ask, _idempotency_key(request))
        return _events_of(generation, after=0)


class GenerationEventsView(APIView):
    authentication_classes = [TicketAuthentication, *APIView.authentication_classes]

    @extend_schema(**schema.GENERATION_EVENTS)
    def get(self, request: Request, pk: UUID) -> HttpResponseBase:
        """Watch a reply from its beginning, or go on after the last event seen."""
        generation = get_object_or_404(Generation.objects.for_user(request.user), pk=pk)
        after = seq_of(request.headers.get("Last-Event-ID") or request.query_params.get("after"))
        if engine.nothing_after(generation, after):
            # The only answer that makes an EventSource stop reconnecting.
            return HttpResponse(status=status.HTTP_204_NO_CONTENT)
        return _events_of(generation, after)


def seq_of(value: object) -> int:
    """The number of the last event seen. What is no such number reads from the start."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _events_of(generation: Generation, after: int) -> EventStreamResponse:
    response = EventStreamResponse(partial(engine.follow, generation.pk, after, idle=KEEP_ALIVE_SECONDS))
    response["X-Generation-Id"] = str(generation.pk)
    return response


def _idempotency_key(request: Request) -> str:
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > LONGEST_IDEMPOTENCY_KEY:
        limit = f"An Idempotency-Key has at most {LONGEST_IDEMPOTENCY_KEY} characters."
        raise ValidationError({"Idempotency-Key": ErrorDetail(limit, "max_length")})
    return key

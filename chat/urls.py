from django.urls import path
from rest_framework.routers import SimpleRouter

from chat.sse import GenerationEventsView, ReplyStreamView
from chat.views import GenerationViewSet, TicketView

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("chat/generations", GenerationViewSet, basename="generation")

urlpatterns = [
    path("chat/stream", ReplyStreamView.as_view(), name="chat-stream"),
    path("chat/generations/<uuid:pk>/events", GenerationEventsView.as_view(), name="generation-events"),
    path("chat/ticket", TicketView.as_view(), name="chat-ticket"),
    *router.urls,
]

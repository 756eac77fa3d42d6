from django.urls import path
from rest_framework.routers import SimpleRouter

from conversations.search.views import SearchView
from conversations.views import ConversationViewSet

router = SimpleRouter(trailing_slash=False)
router.register("conversations", ConversationViewSet, basename="conversation")

urlpatterns = [
    path("chat/search", SearchView.as_view(), name="search"),
    *router.urls,
]

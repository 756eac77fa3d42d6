from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from config import health
from config.metrics import metrics

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="docs")),
    path("favicon.ico", RedirectView.as_view(url=static("config/icon.svg"))),
    # Django's "view on site", 410: nothing of ours has a page of its own, and an id that is no UUID would crash it.
    path("admin/r/<path:object>", RedirectView.as_view()),
    path("admin/", admin.site.urls),
    path("api/", include("accounts.urls")),
    path("api/", include("llm_models.urls")),
    path("api/", include("prompts.urls")),
    path("api/", include("conversations.urls")),
    path("api/", include("chat.urls")),
    path("api/", include("exports.urls")),
    path("api/schema", SpectacularJSONAPIView.as_view(), name="schema"),
    path("docs", SpectacularSwaggerSplitView.as_view(), name="docs"),
    path("health", health.live, name="health"),
    path("health/ready", health.ready, name="health-ready"),
    path("metrics", metrics, name="metrics"),
]

handler400 = "config.errors.bad_request"
handler403 = "config.errors.permission_denied"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"

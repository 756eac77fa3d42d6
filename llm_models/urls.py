from django.urls import path

from llm_models import views

urlpatterns = [
    path("models/list", views.InstalledModelsView.as_view(), name="model-list"),
    path("models/running", views.RunningModelsView.as_view(), name="model-running"),
    path("models/cache/clear", views.ClearCacheView.as_view(), name="model-cache-clear"),
    path("models/<path:name>/info", views.ModelInfoView.as_view(), name="model-info"),
]

from django.apps import AppConfig

from llm_models import host


class LlmModelsConfig(AppConfig):
    name = "llm_models"
    verbose_name = "Models"

    def ready(self) -> None:
        host.urls()  # an OLLAMA_URL that cannot be read stops the start

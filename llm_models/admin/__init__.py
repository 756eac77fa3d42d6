from llm_models.admin.models import LLMModelAdmin
from llm_models.admin.pulls import PullJobAdmin

__all__ = ["LLMModelAdmin", "PullJobAdmin"]

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field

from conversations.filters import ARCHIVED, ArchivedFilter, ConversationCriteria
from conversations.models import Conversation


@extend_schema_field({"type": "string", "enum": ["true", "false", "any"], "default": "any"})
class AnyArchivedFilter(ArchivedFilter):
    """Who takes everything away takes the archived along."""

    def filter(self, qs: QuerySet[Conversation], value: str) -> QuerySet[Conversation]:
        return super().filter(qs, value or "any")


class ExportFilter(ConversationCriteria):
    is_archived = AnyArchivedFilter(choices=ARCHIVED)

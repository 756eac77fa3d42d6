"""What the SSE doors of all runs have in common in the OpenAPI schema."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

COMING_BACK = [
    OpenApiParameter(
        "Last-Event-ID",
        OpenApiTypes.STR,
        OpenApiParameter.HEADER,
        description="The number of the last event seen. An EventSource sends it by itself.",
    ),
    OpenApiParameter("after", OpenApiTypes.INT, description="The same, for those who cannot send headers."),
]

NOTHING_LEFT = OpenApiResponse(description="The last event has been seen: there is nothing left to read.")

"""What browsers are told about our answers: what a page may load and run, and that nobody keeps what is private."""

from collections.abc import Callable

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse_lazy

ADMIN = reverse_lazy("admin:index")
API = "/api/"

# Scripts are files of ours, never in the page. Styles may be: the theme's colours and Swagger's widths are.
PAGE = {
    "default-src": [NONE],
    "script-src": [SELF],
    "style-src": [SELF, UNSAFE_INLINE],
    "img-src": [SELF, "data:"],
    "font-src": [SELF],
    "connect-src": [SELF],
    "base-uri": [NONE],
    "form-action": [SELF],
    "frame-ancestors": [NONE],
}
# The theme is made with Alpine.js, which compiles the expressions in its attributes.
ADMIN_PAGE = PAGE | {"script-src": [SELF, UNSAFE_EVAL]}


class ContentSecurityPolicy(CSPMiddleware):
    """CONTENT_SECURITY_POLICY, unless the view says otherwise; and for the admin, its error pages too, ADMIN_PAGE."""

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if not report_only and request.path.startswith(str(ADMIN)):
            parts.config = ADMIN_PAGE
        return parts


class KeptByNobody:
    """What the API tells is for who asked: no cache between us keeps it, nor does the browser's."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if request.path.startswith(API):
            response.headers.setdefault("Cache-Control", "no-store")
        return response

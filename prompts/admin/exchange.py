"""Files of templates: taking them out, and bringing them in after a look at what that would do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone

from prompts import interchange
from prompts.forms import ImportForm
from prompts.interchange import Item, Outcome, Unreadable
from prompts.models import PromptTemplate

if TYPE_CHECKING:
    from prompts.admin import PromptTemplateAdmin


def exported(templates: Iterable[PromptTemplate]) -> HttpResponse:
    response = HttpResponse(interchange.written(templates), content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="prompts-{timezone.now():%Y-%m-%d}.json"'
    return response


def import_file(pages: PromptTemplateAdmin, request: HttpRequest) -> HttpResponse:
    """First a file, then the list of what it would do, with the file's text in the page; then it is done."""
    if not (pages.has_add_permission(request) and pages.has_change_permission(request)):
        raise PermissionDenied
    if request.method != "POST":
        return _page(pages, request, {"form": ImportForm()})
    form = ImportForm(request.POST, request.FILES)
    try:
        form.is_valid()
        data = _data(form)
        items = interchange.plan(interchange.read(data))
    except Unreadable as exc:
        form.add_error("file", str(exc))
        return _page(pages, request, {"form": form})
    if "_apply" in request.POST:
        return _carry_out(pages, request, items)
    counts = Counter(item.outcome for item in items)
    return _page(
        pages,
        request,
        {
            "items": items,
            "counts": [(outcome.value, counts[outcome]) for outcome in Outcome if counts[outcome]],
            "to_do": counts[Outcome.NEW] + counts[Outcome.CHANGED],
            "text": data.decode(errors="replace"),
        },
    )


def _data(form: ImportForm) -> bytes:
    file, text = form.cleaned_data.get("file"), form.cleaned_data.get("text")
    if file:
        # No more of it than it takes to see that it is too large.
        return bytes(file.read(interchange.LARGEST_FILE_BYTES + 1))
    if text:
        return str(text).encode()
    raise Unreadable("Choose a file that is not empty.")


def _carry_out(pages: PromptTemplateAdmin, request: HttpRequest, items: list[Item]) -> HttpResponse:
    interchange.carry_out(items, by=request.user)  # type: ignore[arg-type]  # only staff comes here
    for item in items:
        if item.outcome == Outcome.NEW:
            pages.log_addition(request, item.template, interchange.NOTE)
        elif item.outcome == Outcome.CHANGED:
            pages.log_change(request, item.template, interchange.NOTE)
    counts = Counter(item.outcome for item in items)
    messages.success(request, ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome) + ".")
    for item in [item for item in items if item.outcome == Outcome.INVALID][:10]:
        messages.warning(request, f"{item.slug or f'Template {item.number}'}: {' '.join(item.problems)}")
    return HttpResponseRedirect(pages.url("changelist"))


def _page(pages: PromptTemplateAdmin, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    if "form" in context:
        context["limit"] = interchange.LARGEST_FILE_BYTES
    return pages.answer(request, "import", "Import prompt templates", None, context)

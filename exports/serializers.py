from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from exports.writers import WRITERS

BRANCHES = "All branches, and not the active path alone."


class BranchesParameters(serializers.Serializer[Any]):
    branches = serializers.BooleanField(default=False, help_text=BRANCHES)


class ExportParameters(serializers.Serializer[Any]):
    format = serializers.ChoiceField(
        ["jsonl", "zip"], default="jsonl", help_text="`jsonl`: our own JSON, a line each; `zip`: a file each."
    )
    content = serializers.ChoiceField(list(WRITERS), default="json", help_text="What the files of a zip are.")
    branches = serializers.BooleanField(default=False, help_text=f"In Markdown and HTML: {BRANCHES.lower()}")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["format"] == "jsonl" and attrs["content"] != "json":
            detail = "JSONL holds our own JSON only; ask for format=zip."
            raise ValidationError({"content": [ErrorDetail(detail, "not_in_this_format")]})
        return attrs

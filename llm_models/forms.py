from __future__ import annotations

import json
from typing import Any

import orjson
from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldBooleanSwitchWidget

from llm_models import names
from llm_models.models import LLMModel
from llm_models.options import OptionsSerializer

EXAMPLE = '{"temperature": 0.7, "num_ctx": 8192}'


class PullForm(forms.Form):
    model_name = forms.CharField(max_length=600)

    def clean_model_name(self) -> str:
        name: str = self.cleaned_data["model_name"]
        if not names.is_valid(name):
            raise ValidationError("This is not the name of a model. Names look like llama3.2 or qwen3:4b.")
        return name


class StrictJSON(json.JSONDecoder):
    """Without NaN, Infinity and halves of characters, which the database could not keep."""

    def decode(self, s: str, *_args: Any) -> Any:
        return orjson.loads(s)


class OptionsField(forms.JSONField):
    """Says where a slip is, and is easy to read. Which options there are is checked by the model's field."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(decoder=StrictJSON, **kwargs)

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value.rstrip() if isinstance(value, str) else value)
        except ValidationError as exc:
            if isinstance(exc.__context__, json.JSONDecodeError):
                raise _not_json(exc.__context__) from exc
            raise

    def prepare_value(self, value: Any) -> Any:
        return json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, dict) else value


def _not_json(slip: json.JSONDecodeError) -> ValidationError:
    return ValidationError(f"This is not JSON: {slip.msg}, in line {slip.lineno}, column {slip.colno}.")


class LLMModelForm(forms.ModelForm):  # type: ignore[type-arg]  # takes an argument in the stubs only
    # Not the model's own field: its constraint would refuse a second default, where the first is to give way.
    default = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="Replies to those who name no model. The one that did so until now gives way.",
    )
    options = OptionsField(
        required=False,
        widget=UnfoldAdminTextareaWidget({"rows": 6, "spellcheck": "false", "class": "model-options"}),
        help_text=f"A JSON object, such as <code>{EXAMPLE}</code>. Those of a conversation or a request come first. "
        f"There are: {', '.join(OptionsSerializer().fields)}.",
    )

    class Meta:
        model = LLMModel
        widgets = {
            "description": UnfoldAdminTextareaWidget({"rows": 3}),
            "system_prompt": UnfoldAdminTextareaWidget({"rows": 5}),
        }
        fields = ["display_name", "description", "is_hidden", "system_prompt", "options"]
        labels = {"is_hidden": "Hidden", "system_prompt": "Default system prompt"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["default"].initial = self.instance.is_default

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("default"):
            if cleaned.get("is_hidden"):
                self.add_error("is_hidden", "The default model cannot be hidden.")
            elif "default" in self.changed_data and (reason := unfit(self.instance)):
                self.add_error("default", reason)
        return cleaned


def unfit(model: LLMModel) -> str:
    """Why it cannot be the default, whether hidden or not; empty if it can."""
    if not model.is_installed:
        return "It is not installed."
    # Older servers do not tell capabilities.
    if model.capabilities and "completion" not in model.capabilities:
        return "One cannot talk to it."
    return ""

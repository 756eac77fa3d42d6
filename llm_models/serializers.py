from typing import Any

from rest_framework import serializers


class CatalogueQuery(serializers.Serializer[dict[str, Any]]):
    refresh = serializers.BooleanField(default=False, help_text="Ask Ollama now, whatever is cached.")


class InstalledModel(serializers.Serializer[dict[str, Any]]):
    name = serializers.CharField()
    display_name = serializers.CharField()
    description = serializers.CharField()
    size_bytes = serializers.IntegerField(allow_null=True)
    modified_at = serializers.DateTimeField(allow_null=True)
    digest = serializers.CharField()
    family = serializers.CharField()
    parameter_size = serializers.CharField()
    quantization = serializers.CharField()
    capabilities = serializers.ListField(child=serializers.CharField())
    is_default = serializers.BooleanField(help_text="The model that answers those who name none.")


class Catalogue(serializers.Serializer[dict[str, Any]]):
    models = InstalledModel(many=True)
    cached_at = serializers.DateTimeField()
    stale = serializers.BooleanField(help_text="Ollama is away; this is what it said last.")


class ModelDetails(serializers.Serializer[dict[str, Any]]):
    parent_model = serializers.CharField()
    format = serializers.CharField()
    family = serializers.CharField()
    families = serializers.ListField(child=serializers.CharField())
    parameter_size = serializers.CharField()
    quantization_level = serializers.CharField()


class ModelInfo(serializers.Serializer[dict[str, Any]]):
    name = serializers.CharField()
    details = ModelDetails()
    parameters = serializers.CharField(help_text="One parameter a line, as Ollama writes them.")
    capabilities = serializers.ListField(child=serializers.CharField())
    context_length = serializers.IntegerField(allow_null=True, help_text="The most it was trained for, in tokens.")
    template = serializers.CharField()
    license = serializers.CharField()
    modified_at = serializers.DateTimeField(allow_null=True)


class RunningModel(serializers.Serializer[dict[str, Any]]):
    name = serializers.CharField()
    size_bytes = serializers.IntegerField(allow_null=True)
    vram_bytes = serializers.IntegerField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    context_length = serializers.IntegerField(allow_null=True, help_text="The window it was loaded with, in tokens.")


class RunningModels(serializers.Serializer[dict[str, Any]]):
    models = RunningModel(many=True)


class CacheCleared(serializers.Serializer[dict[str, Any]]):
    cleared = serializers.BooleanField()

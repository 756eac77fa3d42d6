from asgiref.sync import async_to_sync
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from llm_models import catalogue, names, serializers


class InstalledModelsView(APIView):
    @extend_schema(parameters=[serializers.CatalogueQuery], responses=serializers.Catalogue)
    def get(self, request: Request) -> Response:
        """The installed models, as Ollama last told them; `stale` if it is away."""
        query = serializers.CatalogueQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        return Response(async_to_sync(catalogue.installed)(refresh=query.validated_data["refresh"]))


class ModelInfoView(APIView):
    @extend_schema(responses=serializers.ModelInfo)
    def get(self, request: Request, name: str) -> Response:
        """What one model is and can do."""
        if not names.is_valid(name):
            raise ValidationError({"name": "This is not the name of a model."})
        return Response(async_to_sync(catalogue.info)(name))


class RunningModelsView(APIView):
    @extend_schema(responses=serializers.RunningModels)
    def get(self, request: Request) -> Response:
        """What Ollama has in memory right now."""
        return Response({"models": async_to_sync(catalogue.running)()})


class ClearCacheView(APIView):
    @extend_schema(request=None, responses=serializers.CacheCleared)
    def post(self, request: Request) -> Response:
        """Forget what is known of the installed models; the next request asks Ollama."""
        async_to_sync(catalogue.forget)()
        return Response({"cleared": True})

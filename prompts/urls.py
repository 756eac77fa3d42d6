from rest_framework.routers import SimpleRouter

from prompts.views import PromptTemplateViewSet, PromptVersionViewSet

router = SimpleRouter(trailing_slash=False)
router.register("prompts/templates", PromptTemplateViewSet, basename="prompt-template")
router.register(r"prompts/templates/(?P<slug>[^/]+)/versions", PromptVersionViewSet, basename="prompt-version")

urlpatterns = router.urls

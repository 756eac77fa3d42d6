from rest_framework.routers import SimpleRouter

from accounts.views import ApiKeyViewSet

router = SimpleRouter(trailing_slash=False)
router.register("keys", ApiKeyViewSet, basename="api-key")

urlpatterns = router.urls

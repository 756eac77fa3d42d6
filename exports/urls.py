from exports.imports.urls import urlpatterns as imports

urlpatterns = [*imports]

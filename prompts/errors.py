from rest_framework.exceptions import ErrorDetail, ValidationError


class SlugTaken(ValidationError):  # noqa: N818  # as its siblings in other apps, which need not be told
    def __init__(self) -> None:
        super().__init__({"slug": [ErrorDetail("There is a template with this slug already.", code="unique")]})


class VariablesWithoutTemplate(ValidationError):  # noqa: N818  # as above
    def __init__(self) -> None:
        super().__init__({"prompt_template": [ErrorDetail("Variables are those of a template.", code="required")]})

"""What can go wrong with Ollama, as REST, SSE and WebSocket tell it."""

# ruff: noqa: N818 (named as in the contract: for what happened)

import re

from rest_framework import status
from rest_framework.exceptions import APIException

LONGEST_QUOTE = 300

# An absolute path of at least two parts, on POSIX or Windows, that is not the path of a URL.
_server_path = re.compile(r"(?<![\w/:.])(?:/[\w.@+-]+){2,}/?|\b[A-Za-z]:\\[^\s\"':;,]+")


class OllamaError(APIException):
    """Something is wrong with Ollama or on the way to it. `retryable`: the same request may well succeed later."""

    status_code: int = status.HTTP_502_BAD_GATEWAY
    default_code = "ollama_error"
    default_detail = "Ollama failed."
    retryable = True

    @property
    def code(self) -> str:
        return self.default_code


class OllamaUnavailable(OllamaError):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "ollama_unavailable"
    default_detail = "Ollama cannot be reached. Is it running?"


class OllamaBusy(OllamaError):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "ollama_busy"
    default_detail = "Ollama is busy. Try again in a moment."


class ModelNotFound(OllamaError):
    status_code = status.HTTP_404_NOT_FOUND
    default_code = "model_not_found"
    default_detail = "Ollama does not have this model."
    retryable = False

    def __init__(self, llm_model: str = "") -> None:
        super().__init__(f'Ollama has no model "{quotable(llm_model)}".' if llm_model else None)


class NotInRegistry(ModelNotFound):
    default_detail = "Ollama's registry does not have this model. Is its name right?"


class OllamaFailed(OllamaError):
    """Ollama said so itself: by a status, or by an error line amid a stream (no status)."""

    def __init__(self, said: str = "", ollama_status: int | None = None) -> None:
        failed = "Ollama reported an error" if ollama_status is None else f"Ollama answered {ollama_status}"
        super().__init__(f"{failed}: {quotable(said)}" if said else f"{failed}.")
        self.ollama_status = ollama_status
        self.retryable = ollama_status is None or not 400 <= ollama_status < 500


class OllamaBadResponse(OllamaError):
    default_code = "ollama_bad_response"
    default_detail = "What answered does not speak Ollama's language. Is OLLAMA_URL right?"


class OllamaDisconnected(OllamaError):
    default_code = "ollama_disconnected"
    default_detail = "Ollama broke off before it was done."


class PullFinished(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "pull_finished"
    default_detail = "This pull has already ended."


def refusal(ollama_status: int, said: str, llm_model: str | None) -> OllamaError:
    """The error for a status other than 200. `llm_model` is None where a 404 cannot be about a model."""
    if ollama_status == status.HTTP_503_SERVICE_UNAVAILABLE:
        return OllamaBusy()
    if ollama_status == status.HTTP_404_NOT_FOUND:
        return OllamaBadResponse() if llm_model is None else ModelNotFound(llm_model)
    return OllamaFailed(said, ollama_status)


def quotable(said: str) -> str:
    """Fit to be shown to users: one line, not long, and without the paths of the server's files."""
    line = _server_path.sub("…", " ".join(said[: 10 * LONGEST_QUOTE].split()))
    return line if len(line) <= LONGEST_QUOTE else f"{line[: LONGEST_QUOTE - 1]}…"

import json

import pytest

from llm_models import ollama
from llm_models.errors import OllamaBadResponse
from llm_models.serializers import ModelInfo


def test_info_tells_what_a_model_is_and_can_do(as_alice, wire):
    answer = as_alice.get("/api/models/qwen3:4b/info").json()

    assert answer == {
        "name": "qwen3:4b",
        "details": {
            "parent_model": "",
            "format": "",
            "family": "qwen3",
            "families": [],
            "parameter_size": "4.0B",
            "quantization_level": "Q4_K_M",
        },
        "parameters": 'stop                           "<|im_end|>"\nnum_ctx                        16384',
        "capabilities": ["completion", "tools", "thinking"],
        "context_length": 40960,
        "template": "{{ .Prompt }}",
        "license": "Apache License 2.0",
        "modified_at": "2026-08-30T16:04:11.520931Z",
    }
    assert list(answer) == list(ModelInfo().fields)


def test_info_keeps_the_servers_file_paths_to_itself(as_alice, wire):
    assert "/usr/share" not in as_alice.get("/api/models/qwen3:4b/info").content.decode()


@pytest.mark.parametrize("name", ["qwen3", "hf.co/me/model-GGUF:Q4_K_M", "me/model", "host:5000/me/model:1.5b"])
def test_names_may_hold_slashes_and_colons(as_alice, wire, name):
    response = as_alice.get(f"/api/models/{name}/info")

    assert response.status_code == 200
    assert response.json()["name"] == name
    assert json.loads(wire.requests[-1].content) == {"model": name}


@pytest.mark.parametrize("name", ["two%20words", "a@b", "a:", ":b", "a//b", "-a", "%C3%A9", "x" * 81])
def test_what_cannot_be_a_name_is_refused(as_alice, wire, name):
    response = as_alice.get(f"/api/models/{name}/info")

    assert response.status_code == 400
    assert response.json()["errors"][0]["attr"] == "name"
    assert wire.requests == []


def test_a_model_that_ollama_does_not_have_is_not_found(as_alice, wire):
    wire.will_answer("/api/show", {"error": "model 'qwen9:latest' not found"}, status=404)

    response = as_alice.get("/api/models/qwen9/info")

    assert response.status_code == 404
    assert response.json() == {
        "type": "client_error",
        "errors": [{"code": "model_not_found", "detail": 'Ollama has no model "qwen9".', "attr": None}],
    }


def test_info_needs_ollama(as_alice, wire):
    wire.is_down = True

    response = as_alice.get("/api/models/qwen3:4b/info")

    assert response.status_code == 503
    assert response.json()["errors"][0]["code"] == "ollama_unavailable"


def test_what_ollama_cannot_do_is_a_bad_gateway(as_alice, wire):
    wire.will_answer("/api/show", {"error": "ollama cloud is disabled"}, status=403)

    response = as_alice.get("/api/models/gpt-oss:cloud/info")

    assert response.status_code == 502
    assert response.json()["errors"][0]["code"] == "ollama_error"
    assert "cloud is disabled" in response.json()["errors"][0]["detail"]


def test_an_embedding_model_without_facts_still_has_info(as_alice, wire):
    wire.will_answer("/api/show", {"model_info": None, "details": None, "license": ["MIT"]})

    answer = as_alice.get("/api/models/odd/info").json()

    assert (answer["context_length"], answer["license"], answer["modified_at"]) == (None, "", None)


async def test_the_version_is_a_text(wire):
    wire.will_answer("/api/version", {"version": "0.33.0"})
    assert await ollama.version() == "0.33.0"

    wire.will_answer("/api/version", {"version": 33})
    with pytest.raises(OllamaBadResponse):
        await ollama.version()


async def test_a_server_without_such_a_route_is_not_ollama(wire):
    wire.will_answer("/api/version", b"404 page not found", status=404)

    with pytest.raises(OllamaBadResponse):
        await ollama.version()

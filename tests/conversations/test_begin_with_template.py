"""A conversation that begins with a prompt template remembers which, and keeps the text as it was filled in."""

import pytest

from conversations.models import Conversation
from prompts.declarations import declared
from prompts.models import PromptTemplate
from tests.live import error_of

URL = "/api/conversations"


@pytest.fixture
def tutor(alice) -> PromptTemplate:
    return PromptTemplate.objects.compose(
        by=None,
        owner=None,
        slug="tutor",
        name="Tutor",
        content='Teach {{ subject }} {{ manner|default:"kindly" }}.',
        variables=declared([{"name": "subject", "type": "text", "required": True}]),
    )


def url_of(conversation) -> str:
    return f"{URL}/{conversation['id']}"


def begun(client, **more):
    answer = client.post(URL, {"prompt_template": "tutor", "variables": {"subject": "chess"}, **more})
    assert answer.status_code == 201, answer.content
    return answer.json()


def test_its_text_is_the_system_prompt(as_alice, tutor):
    made = begun(as_alice)

    assert (made["prompt_template"], made["prompt_version"]) == ("tutor", 1)
    assert made["system_prompt"] == "Teach chess kindly."
    assert "variables" not in made
    assert as_alice.get(url_of(made)).json()["prompt_template"] == "tutor"
    assert [each["prompt_template"] for each in as_alice.get(URL).json()["results"]] == ["tutor"]
    tutor.refresh_from_db()
    assert (tutor.use_count, tutor.last_used_at is None) == (1, False)


def test_words_of_ones_own_come_before_its_text(as_alice, tutor):
    assert begun(as_alice, system_prompt="Be brief.")["system_prompt"] == "Be brief."
    assert begun(as_alice, system_prompt="")["system_prompt"] == "Teach chess kindly."


def test_it_stays_as_it_was_when_the_template_changes(as_alice, tutor):
    made = begun(as_alice)
    tutor.edit(by=None, slug="trainer", content="Drill {{ subject }}.")

    seen = as_alice.get(url_of(made)).json()

    assert (seen["prompt_template"], seen["prompt_version"]) == ("trainer", 1)
    assert seen["system_prompt"] == "Teach chess kindly."


def test_it_stays_when_the_template_is_deleted(as_alice, tutor):
    made = begun(as_alice)
    tutor.delete()

    seen = as_alice.get(url_of(made)).json()

    assert (seen["prompt_template"], seen["system_prompt"]) == (None, "Teach chess kindly.")


class TestChanging:
    def test_to_a_template(self, as_alice, tutor):
        made = as_alice.post(URL, {"system_prompt": "Be brief."}).json()

        changed = as_alice.patch(url_of(made), {"prompt_template": "tutor", "variables": {"subject": "go"}}).json()

        assert (changed["prompt_template"], changed["system_prompt"]) == ("tutor", "Teach go kindly.")

    def test_the_variables(self, as_alice, tutor):
        made = begun(as_alice)
        tutor.edit(by=None, content="Drill {{ subject }}.")

        changed = as_alice.patch(url_of(made), {"prompt_template": "tutor", "variables": {"subject": "go"}}).json()

        assert (changed["prompt_version"], changed["system_prompt"]) == (2, "Drill go.")

    def test_to_none(self, as_alice, tutor):
        made = begun(as_alice)

        changed = as_alice.patch(url_of(made), {"prompt_template": ""}).json()

        assert (changed["prompt_template"], changed["prompt_version"]) == (None, None)
        assert changed["system_prompt"] == "Teach chess kindly."

    def test_null_is_not_given(self, as_alice, tutor):
        made = begun(as_alice)

        assert as_alice.patch(url_of(made), {"prompt_template": None}).json()["prompt_template"] == "tutor"

    def test_what_was_read_can_be_written_back(self, as_alice, tutor):
        made = begun(as_alice)
        tutor.edit(by=None, content="Drill {{ subject }}.")

        written = as_alice.put(url_of(made), {**made, "title": "Chess"}).json()

        assert (written["title"], written["prompt_version"]) == ("Chess", 1)
        assert written["system_prompt"] == "Teach chess kindly."
        tutor.refresh_from_db()
        assert tutor.use_count == 1


class TestRefused:
    def refused(self, client, **body):
        answer = client.post(URL, body)
        assert answer.status_code == 400
        assert not Conversation.objects.exists()
        return error_of(answer)

    def test_a_template_that_is_not_there(self, as_alice):
        error = self.refused(as_alice, prompt_template="tutor")

        assert (error["attr"], error["code"]) == ("prompt_template", "does_not_exist")

    def test_one_that_is_inactive(self, as_alice, tutor):
        tutor.edit(by=None, is_active=False)

        assert self.refused(as_alice, prompt_template="tutor")["code"] == "does_not_exist"

    def test_someone_elses(self, as_alice, as_bob, bob, alice):
        PromptTemplate.objects.compose(by=bob, owner=bob, slug="mine", name="Mine", content="Mine.")

        assert self.refused(as_alice, prompt_template="mine")["code"] == "does_not_exist"
        assert as_bob.post(URL, {"prompt_template": "mine"}).status_code == 201

    def test_without_what_it_needs(self, as_alice, tutor):
        error = self.refused(as_alice, prompt_template="tutor")

        assert (error["attr"], error["code"]) == ("variables.subject", "required")

    def test_with_what_it_does_not_know(self, as_alice, tutor):
        error = self.refused(as_alice, prompt_template="tutor", variables={"subject": "go", "speed": 1})

        assert (error["attr"], error["code"]) == ("variables.speed", "unknown_variable")

    def test_variables_of_nothing(self, as_alice):
        error = self.refused(as_alice, variables={"subject": "go"})

        assert (error["attr"], error["code"]) == ("prompt_template", "required")

    @pytest.mark.parametrize("variables", ["go", ["go"], 7])
    def test_variables_that_are_none(self, as_alice, tutor, variables):
        assert self.refused(as_alice, prompt_template="tutor", variables=variables)["attr"] == "variables"

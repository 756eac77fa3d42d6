from chat.models import Generation
from conversations.models import Conversation, Message
from tests.live import UNENDING, conversation_of, the, wait_until


def test_deleting_a_conversation_ends_its_running_reply(alice_online, standin):
    with alice_online.send(model_name=UNENDING) as reply:
        conversation_id = reply.until("message_created").data["conversation_id"]
        reply.until("token")
        assert alice_online.http.delete(f"/api/conversations/{conversation_id}").status_code == 204
        events = reply.rest()

    assert events[-1].name == "error"
    assert events[-1].data["code"] == "interrupted"
    assert events[-1].data["message_id"] == the(events, "message_created").data["message_id"]
    wait_until(lambda: standin.stats["client_closed_early"] == 1)
    assert not Conversation.objects.exists()
    assert not Message.objects.exists()
    assert not Generation.objects.exists()


def test_its_watchers_cannot_come_back(alice_online):
    with alice_online.send(model_name="script:tokens-2") as reply:
        events = reply.rest()
    alice_online.http.delete(f"/api/conversations/{conversation_of(events).pk}")

    with alice_online.watch(reply.generation_id, after=1) as again:
        assert again.status == 404


def test_other_replies_go_on(alice_online):
    with (
        alice_online.send(model_name=UNENDING) as deleted,
        alice_online.send(model_name="script:tokens-600-rate-400") as other,
    ):
        conversation_id = deleted.until("message_created").data["conversation_id"]
        alice_online.http.delete(f"/api/conversations/{conversation_id}")
        assert deleted.rest()[-1].name == "error"
        assert other.rest()[-1].name == "done"


def test_a_deleted_user_ends_their_replies(alice_online, alice, standin):
    with alice_online.send(model_name=UNENDING) as reply:
        reply.until("token")
        alice.delete()
        assert reply.rest()[-1].name == "error"
    wait_until(lambda: standin.stats["client_closed_early"] == 1)

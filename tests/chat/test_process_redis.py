"""Two server processes on one database and one Redis: a reply is at home in both."""

import asyncio
import random
import time

import pytest
import websockets

from llm_models.standin import text_of
from tests.processes import Watch, eventually, generation, messages, until
from tests.redis import RedisServer

THREE_SECONDS = "script:tokens-120-rate-40-unicode"
LONG = "script:tokens-4000-rate-40"


@pytest.fixture
def redis(tmp_path):
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()
    server.client.close()


@pytest.fixture
def pair(home, redis, start_server):
    servers = [start_server(home, kind, wait=False, REDIS_URL=redis.url) for kind in ("serve", "uvicorn")]
    for server in servers:
        server.wait_until_healthy()
    return servers


def shown_by(watch: Watch, start: str = "") -> str:
    """What a client shows that has `start` already and goes by these events."""
    text = start
    for event in watch.events:
        if event.name == "token":
            text += event.data["content"]
        elif event.name == "snapshot":
            text = event.data["content"]
    return text


async def test_a_reply_is_watched_and_taken_up_anywhere_to_the_byte(pair):
    first, second = pair
    async with first.client() as here, second.client() as there:
        original = Watch.ask(here, THREE_SECONDS)
        await until(lambda: original.text)
        from_the_start = Watch.resume(there, original.generation_id)
        seen, after = [], 0
        while not seen or seen[-1].name != "done":
            # A client that changes its server again and again.
            watch = Watch.resume(random.choice([here, there]), original.generation_id, after)
            await asyncio.sleep(random.uniform(0.05, 0.4))
            await watch.leave()
            seen += watch.events
            after = seen[-1].seq if seen else 0
        await original.ended()
        await from_the_start.ended()
        assert original.text == from_the_start.text == text_of(THREE_SECONDS)
        assert "".join(event.data["content"] for event in seen if event.name == "token") == text_of(THREE_SECONDS)
        assert "snapshot" not in [event.name for event in [*seen, *from_the_start.events]]
        assert original.last == from_the_start.last == seen[-1]
        finished = await Watch.resume(there, original.generation_id, after=7).ended()
        assert [event for event in finished.events if event.seq > 7][-1] == original.last
        assert (await Watch.resume(there, original.generation_id, after=after).ended()).status == 204


async def test_a_key_used_again_at_another_server_attaches_to_the_reply(pair):
    first, second = pair
    body, headers = {"message": "Hello", "model_name": THREE_SECONDS}, {"Idempotency-Key": "once"}
    async with first.client() as here, second.client() as there:
        original = Watch(here, "POST", "/api/chat/stream", json=body, headers=headers)
        await until(lambda: original.text)
        again = Watch(there, "POST", "/api/chat/stream", json=body, headers=headers)
        await original.ended()
        await again.ended()
        assert again.generation_id == original.generation_id
        assert again.text == original.text == text_of(THREE_SECONDS)


async def test_stop_at_one_server_reaches_ollama_through_the_other(pair, upstream):
    first, second = pair
    async with first.client() as here, second.client() as there:
        watch = Watch.ask(here, LONG)
        await until(lambda: watch.text)
        elsewhere = Watch.resume(there, watch.generation_id)
        await until(lambda: elsewhere.text)
        began = time.monotonic()
        assert (await there.post(f"/api/chat/generations/{watch.generation_id}/stop")).status_code == 202
        await until(lambda: upstream.stats["client_closed_early"] == 1)
        assert time.monotonic() - began < 0.9, "sooner than the next checkpoint would have seen it"
        for one in (watch, elsewhere):
            await one.ended()
            assert (one.last.name, one.last.data["status"]) == ("done", "stopped")
        assert watch.text == elsewhere.text


async def test_readers_elsewhere_are_told_when_the_process_that_runs_it_is_killed(pair):
    first, second = pair
    async with first.client() as here, second.client() as there:
        lost = Watch.ask(here, LONG)
        await until(lambda: lost.text)
        elsewhere = Watch.resume(there, lost.generation_id)
        await until(lambda: len(elsewhere.text.split()) > 60)
        first.kill()
        await lost.broken()
        await elsewhere.ended()
        assert (elsewhere.last.name, elsewhere.last.data["code"]) == ("error", "interrupted")
        _, reply = await messages(there, lost.created["conversation_id"])
        assert shown_by(elsewhere) == reply["content"]
        assert (await generation(there, lost.generation_id))["status"] == "interrupted"
        rest = await Watch.resume(there, lost.generation_id, after=lost.last.seq).ended()
        assert rest.last == elsewhere.last
        assert shown_by(rest, lost.text) == reply["content"]


@pytest.mark.parametrize("fault", ["restart", "pause"])
async def test_redis_may_go_away_amid_a_reply(pair, redis, fault):
    first, second = pair
    model = "script:tokens-400-rate-40"
    async with first.client() as here, second.client() as there:
        original = Watch.ask(here, model)
        await until(lambda: original.text)
        elsewhere = Watch.resume(there, original.generation_id)
        await until(lambda: elsewhere.text)
        redis.stop() if fault == "restart" else redis.pause()
        during = Watch.ask(there, "script:tokens-5-rate-0")
        await during.ended()
        assert during.last.name == "done"
        assert (await here.get("/api/conversations")).status_code == 200
        assert (await here.get("/health/ready")).json()["cache"] == {"status": "unavailable"}
        redis.start() if fault == "restart" else redis.resume()
        came_back = Watch.resume(there, original.generation_id, after=elsewhere.last.seq)
        shown = elsewhere.text
        late = Watch.resume(there, original.generation_id)
        for watch in (original, elsewhere, came_back, late):
            await watch.ended()
            assert watch.last.name == "done"
        assert original.text == text_of(model)
        assert shown_by(elsewhere) == shown_by(late) == shown_by(came_back, shown) == text_of(model)
        await eventually(lambda: there.get("/health/ready"), lambda answer: answer.json()["cache"]["status"] == "ok")


async def test_a_ticket_for_a_socket_is_good_at_any_server_once(pair):
    first, second = pair
    async with first.client() as here:
        ticket = (await here.post("/api/chat/ticket", json={"purpose": "websocket"})).json()["ticket"]

    url = f"ws://127.0.0.1:{second.port}/ws/chat?ticket={ticket}"
    async with websockets.connect(url, proxy=None) as socket:
        await socket.send('{"action": "ping"}')
        assert "pong" in await socket.recv()
    async with websockets.connect(url, proxy=None) as socket:
        await socket.wait_closed()
        assert socket.close_code == 4401

"""Drives the control API with the published SDK for Python, sync and async."""
import asyncio
import datetime
import os

from e2b import AsyncSandbox, Sandbox, SandboxQuery, SandboxState, Template
from e2b.exceptions import AuthenticationException, RateLimitException, SandboxException, SandboxNotFoundException

ODD = {"odd &=%+ key": "a/b ✓ 100%"}


def raises(kind, call, mentions=""):
    try:
        call()
    except kind as e:
        assert mentions in str(e), f"{e} does not mention {mentions}"
        return
    raise AssertionError(f"no {kind.__name__}")


def all_ids(**opts):
    ids, pages = [], Sandbox.list(**opts)
    while pages.has_next:
        ids += [s.sandbox_id for s in pages.next_items()]
    return ids


def sync():
    sandbox = Sandbox.create("base", timeout=60, metadata={"user": "ann", **ODD}, envs={"A": "1"},
                             network={"deny_out": ["8.8.8.8"], "allow_public_traffic": False})
    info = sandbox.get_info()
    assert info.template_id == "base" and info.state == SandboxState.RUNNING, info
    assert info.metadata == {"user": "ann", **ODD}, info.metadata
    assert (info.end_at - info.started_at).total_seconds() == 60, info
    assert sandbox.traffic_access_token
    sandbox.set_timeout(120)
    raises(SandboxException, lambda: sandbox.set_timeout(25 * 3600), "86400")
    sandbox.update_network({"allow_internet_access": False})
    assert Sandbox.connect(sandbox.sandbox_id, timeout=300).sandbox_id == sandbox.sandbox_id
    metrics = sandbox.get_metrics(start=datetime.datetime.now() - datetime.timedelta(hours=1))
    assert len(metrics) == 1 and metrics[0].mem_used == 1234, metrics

    once = Sandbox.create(idempotency_key="key-1")
    assert Sandbox.create(idempotency_key="key-1").sandbox_id == once.sandbox_id
    made = [sandbox.sandbox_id, once.sandbox_id]
    made += [Sandbox.create(metadata={"user": "bob", "n": str(n)}).sandbox_id for n in range(3)]
    assert all_ids(limit=2, order="asc") == made
    assert all_ids(limit=2) == made[::-1]
    assert all_ids(query=SandboxQuery(metadata=ODD)) == made[:1]
    assert all_ids(query=SandboxQuery(state=[SandboxState.PAUSED, SandboxState.RUNNING], metadata={"n": "1"})) == [made[3]]
    assert all_ids(query=SandboxQuery(state=[SandboxState.PAUSED])) == []
    assert all_ids(query=SandboxQuery(started_after=datetime.datetime.now() + datetime.timedelta(hours=1))) == []

    raises(SandboxException, lambda: Sandbox.create(mcp={"x": {}}), "mcp")
    raises(SandboxException, lambda: Sandbox.create("nothing"), "nothing")
    raises(AuthenticationException, lambda: Sandbox.create(api_key="e2b_" + "0" * 40))
    raises(SandboxNotFoundException, lambda: Sandbox.connect("inothing"))
    assert Template.exists("base") and not Template.exists("nothing")
    assert Template.get_tags("base")[0].tag == "default"
    Sandbox.create()
    raises(RateLimitException, Sandbox.create, "limit is 6")  # the test's limit
    for sandbox_id in all_ids():
        assert Sandbox.kill(sandbox_id)
    assert not Sandbox.kill(made[0])


async def asynchronous():
    sandbox = await AsyncSandbox.create(timeout=30, metadata=ODD)
    pages = AsyncSandbox.list(query=SandboxQuery(metadata=ODD))
    assert [s.sandbox_id for s in await pages.next_items()] == [sandbox.sandbox_id]
    assert (await sandbox.get_info()).sandbox_id == sandbox.sandbox_id
    assert await sandbox.kill()


sync()
asyncio.run(asynchronous())
# The SDK's HTTP library sometimes aborts the interpreter while it ends, with all done.
os._exit(0)

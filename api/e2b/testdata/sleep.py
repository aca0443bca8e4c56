"""Drives pause, resume, fork and snapshots with the published SDK for Python."""
import asyncio
import os

from e2b import AsyncSandbox, Sandbox, SandboxQuery, SandboxState, Template
from e2b.exceptions import RateLimitException, SandboxException, SandboxNotFoundException

PAUSED = SandboxQuery(state=[SandboxState.PAUSED])


def raises(kind, call, mentions=""):
    try:
        call()
    except kind as e:
        assert mentions in str(e), f"{e} does not mention {mentions}"
        return e
    raise AssertionError(f"no {kind.__name__}")


def every(pages):
    items = []
    while pages.has_next:
        items += pages.next_items()
    return items


def ids(**opts):
    return [s.sandbox_id for s in every(Sandbox.list(**opts))]


def pause_and_resume():
    sandbox = Sandbox.create("base", timeout=60, lifecycle={"on_timeout": "pause", "auto_resume": True})
    assert sandbox.get_info().lifecycle == {"on_timeout": "pause", "auto_resume": True}
    assert sandbox.pause() is True and sandbox.pause() is False
    assert sandbox.get_info().state == SandboxState.PAUSED
    for call in (sandbox.fork, lambda: sandbox.update_network({"allow_internet_access": False})):
        raises(SandboxException, call, "is paused: resume it first")
    for call in (lambda: sandbox.set_timeout(60), sandbox.create_snapshot):
        raises(SandboxNotFoundException, call)
    info = Sandbox.connect(sandbox.sandbox_id, timeout=600).get_info()
    assert info.state == SandboxState.RUNNING and (info.end_at - info.started_at).total_seconds() >= 600, info
    sandbox.connect()  # a running one stays
    assert Sandbox.pause(sandbox.sandbox_id, mode="filesystem") is True
    sandbox.connect(on_resume="reboot")
    raises(SandboxException, lambda: sandbox.pause(strict=True), "requireHealthyGuest")
    assert sandbox.pause(keep_memory=False) is True
    assert sandbox.kill()

    disk_only = Sandbox.create(lifecycle={"on_timeout": {"action": "pause", "mode": "filesystem"}})
    assert disk_only.get_info().lifecycle == {"on_timeout": "pause", "auto_resume": False}
    assert disk_only.kill()
    raises(SandboxNotFoundException, disk_only.pause)
    raises(SandboxNotFoundException, disk_only.connect)


def damage():
    sandbox = Sandbox.create(metadata={"wake": "damaged"})
    sandbox.pause()
    assert raises(SandboxException, sandbox.connect, 'on_resume="reboot"').status_code == 409
    sandbox.connect(on_resume="reboot")
    assert sandbox.get_info().state == SandboxState.RUNNING
    sandbox.kill()


def lists():
    made = []
    for n in range(5):
        sandbox = Sandbox.create(metadata={"list": "yes"})
        if n % 2:
            sandbox.pause()
        made.append(sandbox.sandbox_id)
    assert ids(limit=2) == made[::-1]
    assert ids(limit=1, query=PAUSED) == [made[3], made[1]]
    assert ids(query=SandboxQuery(state=[SandboxState.RUNNING])) == [made[4], made[2], made[0]]
    assert ids(limit=2, order="asc", query=SandboxQuery(state=[SandboxState.RUNNING, SandboxState.PAUSED])) == made
    assert [s.state.value for s in every(Sandbox.list())] == ["running", "paused", "running", "paused", "running"]
    for _ in range(3):  # paused ones do not count against the limit of 6
        Sandbox.create()
    raises(RateLimitException, lambda: Sandbox.connect(made[1]), "limit is 6")
    for sandbox_id in ids():
        assert Sandbox.kill(sandbox_id)
    assert ids() == []


def forks():
    sandbox = Sandbox.create(metadata={"user": "ann"})
    one, = sandbox.fork()
    assert isinstance(one, Sandbox) and one.sandbox_id != sandbox.sandbox_id
    copies = Sandbox.fork(sandbox.sandbox_id, count=6, timeout=120)
    assert [type(c) for c in copies] == [Sandbox] * 4 + [RateLimitException] * 2, copies
    assert copies[0].get_info().metadata == {"user": "ann"}
    raises(SandboxNotFoundException, lambda: Sandbox.fork("inothing"))
    for sandbox_id in ids():
        Sandbox.kill(sandbox_id)


def snapshots():
    sandbox = Sandbox.create()
    plain = sandbox.create_snapshot()
    named = Sandbox.create_snapshot(sandbox.sandbox_id, name="my-snapshot")
    assert plain.names == [] and named.names == [named.snapshot_id] == ["default/my-snapshot:default"]
    raises(SandboxException, lambda: sandbox.create_snapshot(name="No Name"), "lower-case")
    assert raises(SandboxException, lambda: sandbox.create_snapshot(mode="filesystem"), "without memory").status_code == 400
    raises(SandboxNotFoundException, lambda: Sandbox.create_snapshot("inothing"))

    def listed(**opts):
        return [s.snapshot_id for s in every(Sandbox.list_snapshots(**opts))]

    assert listed(limit=1) == [named.snapshot_id, plain.snapshot_id]
    assert listed(name="my-snapshot") == listed(name=named.snapshot_id) == [named.snapshot_id]
    assert listed(sandbox_id="inothing") == []
    assert len(sandbox.list_snapshots().next_items()) == 2
    sandbox.kill()
    for ref in (plain.snapshot_id, named.snapshot_id, "my-snapshot", "default/my-snapshot"):
        assert Template.exists(ref)
        Sandbox.create(ref).kill()
    assert Sandbox.delete_snapshot(named.snapshot_id) is True
    assert Sandbox.delete_snapshot(named.snapshot_id) is False
    raises(SandboxException, lambda: Sandbox.delete_snapshot("base"), "built in")
    raises(SandboxException, lambda: Sandbox.create("my-snapshot"), "my-snapshot")
    assert listed() == [plain.snapshot_id]


async def asynchronous():
    sandbox = await AsyncSandbox.create(lifecycle={"on_timeout": "pause"})
    assert await sandbox.pause() is True and await sandbox.pause() is False
    pages = AsyncSandbox.list(query=PAUSED)
    assert [s.sandbox_id for s in await pages.next_items()] == [sandbox.sandbox_id]
    await sandbox.connect()
    snapshot = await sandbox.create_snapshot("other")
    copy, = await sandbox.fork()
    assert await AsyncSandbox.delete_snapshot(snapshot.snapshot_id) and await copy.kill() and await sandbox.kill()


for part in (pause_and_resume, damage, lists, forks, snapshots):
    part()
asyncio.run(asynchronous())
# The SDK's HTTP library sometimes aborts the interpreter while it ends, with all done.
os._exit(0)

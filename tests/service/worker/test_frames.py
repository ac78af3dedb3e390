from __future__ import annotations

import asyncio
import socket
import threading

from service.worker.frames import Begin, ChildEnd, Freed, Halt, Stepped, Watch, next_from_child, packed


def test_frames_arrive_whole_and_in_order_however_they_are_cut() -> None:
    ours, theirs = socket.socketpair()
    frames = [
        Watch(wanted=True),
        Begin(job="j", attempt=1, task="pretend", model="pretend", params={"steps": 3}),
        Halt(job="j", attempt=1),
    ]
    wire = b"".join(packed(frame) for frame in frames)

    def drip() -> None:
        for byte in wire:
            ours.send(bytes([byte]))
        ours.close()

    threading.Thread(target=drip).start()
    end = ChildEnd(theirs.detach())
    assert [end.receive() for _ in range(4)] == [*frames, None]


def test_threads_may_send_at_the_same_time() -> None:
    async def read() -> list[object]:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        end = ChildEnd(theirs.detach())
        threads = [
            threading.Thread(target=lambda: [end.send(Freed(job="j" * 500, attempt=1)) for _ in range(200)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        read = [await next_from_child(reader) for _ in range(800)]
        writer.close()
        return read

    assert set(asyncio.run(read())) == {Freed(job="j" * 500, attempt=1)}


def test_half_a_frame_at_the_end_is_an_end() -> None:
    async def read() -> object:
        reader = asyncio.StreamReader()
        frame = Stepped(job="j", attempt=1, phase="denoising", step=1, steps=2, step_s=0.1)
        reader.feed_data(packed(frame)[:-1])
        reader.feed_eof()
        return await next_from_child(reader)

    assert asyncio.run(read()) is None

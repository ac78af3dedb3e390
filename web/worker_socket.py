"""The workers' WebSocket, /v1/worker: frames in and out of the dispatcher. It decides nothing itself."""

from __future__ import annotations

import asyncio
import secrets

import msgspec
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from service import protocol as say
from service.dispatch import Dispatcher
from service.sessions import Session

HELLO_S = 10.0
SEND_S = 10.0  # a worker that does not read for this long is cut off; it comes back and resumes

BAD_MESSAGE, BAD_SUBPROTOCOL, HELLO_TIMEOUT = 4400, 4406, 4408


async def worker_socket(websocket: WebSocket) -> None:
    """Serve one session from hello to its end."""
    if say.SUBPROTOCOL not in websocket.scope["subprotocols"]:
        await websocket.accept()  # a refused handshake could not say why
        await websocket.close(BAD_SUBPROTOCOL, f"speak {say.SUBPROTOCOL}")
        return
    await websocket.accept(subprotocol=say.SUBPROTOCOL)
    dispatcher: Dispatcher = websocket.app.state.dispatcher
    outgoing: asyncio.Queue[say.ToWorker | None] = asyncio.Queue()
    session = Session(id=secrets.token_hex(8), send=outgoing.put_nowait, end=lambda: outgoing.put_nowait(None))
    sender = asyncio.create_task(_send_all(websocket, outgoing))
    receiver = asyncio.create_task(_receive_all(websocket, dispatcher, session))
    try:
        await asyncio.wait({sender, receiver}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        dispatcher.ended(session)
        sender.cancel()
        receiver.cancel()
        await asyncio.gather(sender, receiver, return_exceptions=True)


ROUTES = [WebSocketRoute("/v1/worker", worker_socket)]


async def _receive_all(websocket: WebSocket, dispatcher: Dispatcher, session: Session) -> None:
    try:
        async with asyncio.timeout(HELLO_S):
            first = say.from_worker(await websocket.receive_bytes())
        if not isinstance(first, say.Hello):
            await websocket.close(BAD_MESSAGE, "say hello first")
            return
        await dispatcher.hello(session, first)
        while True:
            dispatcher.receive(session, say.from_worker(await websocket.receive_bytes()))
    except TimeoutError:
        await websocket.close(HELLO_TIMEOUT, f"no hello within {HELLO_S:g} s")
    except (msgspec.DecodeError, KeyError) as error:  # a text frame has no bytes
        await websocket.close(BAD_MESSAGE, f"not a message: {error}"[:120])
    except WebSocketDisconnect:
        return


async def _send_all(websocket: WebSocket, outgoing: asyncio.Queue[say.ToWorker | None]) -> None:
    """Send what is queued, in order, until the end of the session is queued."""
    while (message := await outgoing.get()) is not None:
        async with asyncio.timeout(SEND_S):
            await websocket.send_bytes(say.encode(message))
    await websocket.close(1000)

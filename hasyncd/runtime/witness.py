"""The witness in etcd: proto/pair.md §7b over etcd's v3 JSON gateway.

1. A request is decided on what was read (`core.register.judge`) and written only if nobody has written since (`txn` on
   the key's `mod_revision`); else it is decided anew. What stood there last is remembered, so that a claim is one trip.
2. Endpoints are asked one after the other, the next as soon as one fails or is slow. A write may so arrive twice: the
   second finds the register changed, by the first, and itself done.
3. Whatever etcd says is untrusted: bounded, parsed, or `Lost` with the reason.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import ssl
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp

from hasyncd.config_values import NAME
from hasyncd.core.register import GENERATION_MAX, Answer, Kind, Outcome, Register, Request, judge
from hasyncd.runtime.pair_keys import PairKeysError

if TYPE_CHECKING:
    from hasyncd.config_witness import Witness

_TIMEOUT_S: Final = 1.0
"""For all of a request; the core waits no longer than its dead time anyway."""
_HEDGE_S: Final = 0.03
"""An endpoint that has not answered by then is joined by the next one."""
_TRIES_MAX: Final = 6
_ANSWER_BYTES_MAX: Final = 16_384
_VALUE_BYTES_MAX: Final = 512
_VERSION: Final = 1


class Lost(Exception):
    """The witness did not answer, or not as one does."""


class Entry(NamedTuple):
    """What stands under the key: nothing has `revision` 0."""

    revision: int
    register: Register | None


def encode_register(register: Register) -> bytes:
    fields = {
        "alone": register.alone,
        "boot_id": f"{register.boot_id:016x}",
        "generation": register.generation,
        "node": register.node,
        "number": register.number,
        "version": _VERSION,
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def decode_register(value: bytes) -> Register:
    """Raises Lost where it is no register."""
    fields = _object(value[: _VALUE_BYTES_MAX + 1])
    alone, boot, node = fields.get("alone"), fields.get("boot_id"), fields.get("node")
    if len(value) > _VALUE_BYTES_MAX or fields.get("version") != _VERSION or not isinstance(alone, bool):
        raise Lost("what stands there is no register of this version")
    if not isinstance(boot, str) or len(boot) != 16 or not isinstance(node, str) or not NAME.fullmatch(node):
        raise Lost("what stands there names no node and process")
    try:
        boot_id = int(boot, 16)
    except ValueError:
        raise Lost("what stands there names no process") from None
    generation, number = fields.get("generation"), fields.get("number")
    for value_ in (generation, number):
        if not isinstance(value_, int) or isinstance(value_, bool) or not 0 <= value_ <= GENERATION_MAX:
            raise Lost("what stands there has no generation or number")
    assert isinstance(generation, int)
    assert isinstance(number, int)
    return Register(node, boot_id, generation, alone, number)


def _object(text: bytes | str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Lost("the answer is no JSON") from None
    if not isinstance(value, dict):
        raise Lost("the answer is no JSON object")
    return value


def _revision(value: object) -> int:
    """An int64, which the gateway writes as a string."""
    text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise Lost("the answer has no revision")
    return int(text)


def decode_range(answer: object) -> Entry:
    """What `range` (by itself or in a `txn`) says of the one key. Raises Lost."""
    found = answer.get("kvs", []) if isinstance(answer, dict) else None
    if not isinstance(found, list) or len(found) > 1 or not all(isinstance(each, dict) for each in found):
        raise Lost("the answer is none to a range request")
    if not found:
        return Entry(0, None)
    revision, value = _revision(found[0].get("mod_revision")), found[0].get("value", "")
    try:
        content = base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise Lost("the value is no base64") from None
    return Entry(revision, decode_register(content))


def decode_txn(answer: dict[str, Any], written: Register) -> tuple[bool, Entry]:
    """Whether it was written, and what stands there now. Raises Lost."""
    if answer.get("succeeded") is True:
        header = answer.get("header")
        return True, Entry(_revision(header.get("revision") if isinstance(header, dict) else None), written)
    responses = answer.get("responses")
    if not isinstance(responses, list) or len(responses) != 1 or not isinstance(responses[0], dict):
        raise Lost("the answer is none to a transaction")
    return False, decode_range(responses[0].get("response_range"))


class EtcdWitness:
    """Asks for one node. Create it in the running loop. Raises PairKeysError for TLS files that are no good."""

    def __init__(self, witness: Witness, key: str) -> None:
        self._endpoints = list(witness.endpoints)
        self._key = base64.b64encode(key.encode()).decode()
        self._last: Entry | None = None
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=_tls(witness), keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    @property
    def busy(self) -> bool:
        return self._task is not None and not self._task.done()

    def ask(self, request: Request, on_answer: Callable[[int, Answer], None]) -> None:
        """`on_answer` gets the request's number and the answer, unless another `ask` comes before."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._spawn(self._ask(request, on_answer))

    async def close(self) -> None:
        """Ends everything. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _ask(self, request: Request, on_answer: Callable[[int, Answer], None]) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                answer = await self._decide(request)
        except TimeoutError:
            answer = Answer(Outcome.UNREACHABLE, None, f"no answer within {_TIMEOUT_S:g} s")
        except Lost as lost:
            answer = Answer(Outcome.UNREACHABLE, None, str(lost))
        if answer.outcome is Outcome.UNREACHABLE:
            self._last = None
        on_answer(request.number, answer)

    async def _decide(self, request: Request) -> Answer:
        entry, fresh = self._last, False
        for _ in range(_TRIES_MAX):
            if entry is None or request.kind is Kind.LOOK:
                entry, fresh = decode_range(await self._call("range", {"key": self._key})), True
            verdict = judge(entry.register, request)
            wanted = verdict.register
            if verdict.outcome is Outcome.GRANTED and wanted is not None and wanted != entry.register:
                done, entry = decode_txn(await self._call("txn", self._transaction(entry, wanted)), wanted)
                fresh = True
                if not done:
                    continue
            elif not fresh:
                entry = None  # what was remembered may be old
                continue
            self._last = entry
            return verdict
        raise Lost("the register changes faster than it can be written")

    def _transaction(self, entry: Entry, wanted: Register) -> dict[str, object]:
        value = base64.b64encode(encode_register(wanted)).decode()
        return {
            "compare": [
                {"key": self._key, "target": "MOD", "result": "EQUAL", "mod_revision": str(entry.revision)}
            ],
            "success": [{"request_put": {"key": self._key, "value": value}}],
            "failure": [{"request_range": {"key": self._key}}],
        }

    # --- the wire ------------------------------------------------------------------------------------

    async def _call(self, method: str, body: dict[str, object]) -> dict[str, Any]:
        """The first good answer of any endpoint. Raises Lost with what the last one failed of."""
        waiting = list(self._endpoints)
        running: dict[asyncio.Task[dict[str, Any]], str] = {}
        reason = "no endpoint"
        try:
            while waiting or running:
                if waiting:
                    endpoint = waiting.pop(0)
                    running[asyncio.ensure_future(self._post(f"{endpoint}/v3/kv/{method}", body))] = endpoint
                done, _ = await asyncio.wait(
                    running, timeout=_HEDGE_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    endpoint = running.pop(task)
                    error = task.exception()
                    if error is None:
                        self._prefer(endpoint)
                        return task.result()
                    if not isinstance(error, Lost):
                        raise error
                    reason = f"{endpoint}: {error}"
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        raise Lost(reason)

    def _prefer(self, endpoint: str) -> None:
        """Whoever has answered is asked first."""
        self._endpoints.remove(endpoint)
        self._endpoints.insert(0, endpoint)

    async def _post(self, url: str, body: dict[str, object]) -> dict[str, Any]:
        try:
            return await self._post_once(url, body)
        except aiohttp.ServerDisconnectedError:
            # A kept connection that the server had closed, by a restart. Everything asked here may be asked twice.
            try:
                return await self._post_once(url, body)
            except aiohttp.ServerDisconnectedError as error:
                raise Lost(_describe(error)) from None

    async def _post_once(self, url: str, body: dict[str, object]) -> dict[str, Any]:
        try:
            async with self._session.post(url, json=body, allow_redirects=False) as response:
                content = bytearray()
                async for chunk in response.content.iter_chunked(_ANSWER_BYTES_MAX):
                    content += chunk
                    if len(content) > _ANSWER_BYTES_MAX:
                        raise Lost("the answer is too long")
                if response.status != 200:
                    raise Lost(f"HTTP status {response.status}")
        except aiohttp.ServerDisconnectedError:
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise Lost(_describe(error)) from None
        return _object(bytes(content))


def _describe(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno)
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(error) or type(error).__name__


def _tls(witness: Witness) -> ssl.SSLContext | bool:
    if not any(endpoint.startswith("https:") for endpoint in witness.endpoints):
        return True
    try:
        context = ssl.create_default_context(cafile=witness.ca)
        if witness.cert is not None:
            context.load_cert_chain(witness.cert, witness.key)
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(str(file) for file in (witness.ca, witness.cert, witness.key) if file is not None)
        raise PairKeysError(f"peer.witness: {files}: {error.strerror or error}") from error
    return context

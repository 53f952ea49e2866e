"""Carry out one activity: a function, a program, or a request over HTTP."""

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from fivenines.drill.drills.checking import find_function
from fivenines.drill.drills.experiment import Activity, Provider
from fivenines.drill.drills.scene import Scene
from fivenines.drill.drills.substituting import substitute

__all__ = ["ActivityFailedError", "carry_out"]

_PROCESS_S_MAX = 300.0
_HTTP_S_MAX = 30.0


class ActivityFailedError(Exception):
    """An activity could not be carried out; the sentence says which, and why."""

    def __init__(self, activity: Activity, reason: str) -> None:
        super().__init__(f"{activity.name}: {reason}")


async def carry_out(activity: Activity, scene: Scene, values: Mapping[str, Any]) -> Any:
    """Do what an activity says, its pauses included, and return what came of it.

    Raises:
        ActivityFailedError: it could not be done.
    """
    await asyncio.sleep(activity.pauses.before)
    provider: Provider = msgspec.structs.replace(
        activity.provider,
        arguments=substitute(activity.provider.arguments, values),
        url=substitute(activity.provider.url, values),
        path=substitute(activity.provider.path, values),
        headers=substitute(activity.provider.headers, values),
    )
    try:
        if activity.is_fault:
            assert isinstance(provider.arguments, dict)  # checked when it was read
            await scene.begin_fault(activity.name, provider.func, provider.arguments)
            found = None
        else:
            doing = {"python": _python, "process": _process, "http": _http}[provider.type]
            async with asyncio.timeout(provider.timeout):
                found = await doing(provider, scene)
    except (asyncio.CancelledError, ActivityFailedError):
        raise
    except TimeoutError as error:
        if provider.timeout is None:
            raise ActivityFailedError(activity, str(error) or "it took too long") from error
        raise ActivityFailedError(activity, f"it took longer than {provider.timeout:g} s") from error
    except Exception as error:  # whatever a drill does may fail in any way, and is one step of it all the same
        raise ActivityFailedError(activity, str(error) or repr(error)) from error
    await asyncio.sleep(activity.pauses.after)
    return found


async def _python(provider: Provider, scene: Scene) -> Any:
    function = find_function(provider.module, provider.func)
    assert isinstance(provider.arguments, dict)  # checked when it was read
    arguments = dict(provider.arguments)
    if "scene" in inspect.signature(function).parameters:
        arguments["scene"] = scene
        found = function(**arguments)
    elif inspect.iscoroutinefunction(function):
        found = function(**arguments)
    else:  # somebody else's: it may block
        found = await asyncio.to_thread(function, **arguments)
    return await found if inspect.isawaitable(found) else found


async def _process(provider: Provider, _scene: Scene) -> dict[str, Any]:
    arguments = provider.arguments
    if isinstance(arguments, str):
        words = arguments.split()
    elif isinstance(arguments, dict):
        words = [str(each) for pair in arguments.items() for each in pair if each not in {None, ""}]
    else:
        words = [str(each) for each in arguments]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        provider.path, *words, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(provider.timeout or _PROCESS_S_MAX):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return {
        "status": process.returncode,
        "stdout": stdout.decode(errors="replace"),
        "stderr": stderr.decode(errors="replace"),
    }


async def _http(provider: Provider, _scene: Scene) -> dict[str, Any]:
    arguments = provider.arguments or None
    is_query = provider.method in {"GET", "HEAD", "OPTIONS", "DELETE"}
    async with httpx.AsyncClient(trust_env=False, timeout=provider.timeout or _HTTP_S_MAX) as http:
        answer = await http.request(
            provider.method,
            provider.url,
            headers=provider.headers,
            params=arguments if is_query and isinstance(arguments, dict) else None,
            json=None if is_query else arguments,
        )
    if provider.expected_status is not None and answer.status_code != provider.expected_status:
        raise ValueError(f"it was answered {answer.status_code} in the place of {provider.expected_status}")
    try:
        body: Any = answer.json()
    except ValueError:
        body = answer.text
    return {"status": answer.status_code, "headers": dict(answer.headers), "body": body}

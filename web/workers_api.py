"""Workers, models and tasks over HTTP: who is here and what can be generated; a worker out of quarantine."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from projections.workers import all_workers
from service import commands as ask
from service.dispatch import Dispatcher
from service.handle import Handler
from service.tasks.catalog import Catalog
from service.tasks.registry import TASKS
from web.requests import caller_of, cause_of, handler_of, json_response, views_of
from web.resources import ModelList, WorkerList, WorkerResource, model_resource, worker_resource


def workers(handler: Handler, dispatcher: Dispatcher) -> list[WorkerResource]:
    """Every worker ever registered."""
    views = all_workers(handler.views.reader())
    return [worker_resource(view, handler.state, dispatcher.connected) for view in views]


async def index(request: Request) -> Response:
    """Every worker."""
    await views_of(request)
    return json_response(WorkerList(workers=workers(handler_of(request), request.app.state.dispatcher)))


async def release(request: Request) -> Response:
    """Let a quarantined worker have jobs again."""
    name = request.path_params["worker"]
    command = ask.ReleaseWorker(worker=name)
    await handler_of(request).ask(command, actor=caller_of(request).actor, cause=cause_of(request))
    await views_of(request)
    every = workers(handler_of(request), request.app.state.dispatcher)
    return json_response(next(worker for worker in every if worker.name == name))


async def models(request: Request) -> Response:
    """The catalogue, and which of it a connected worker can run now."""
    state, connected = handler_of(request).state, request.app.state.dispatcher.connected
    runnable = {
        (task, model)
        for worker in state.workers.values()
        if worker.name in connected
        for task, ids in worker.models.items()
        for model in ids
    }
    listed = [
        model_resource(model, is_available=any((task, model.id) in runnable for task in model.tasks))
        for model in handler_of(request).catalog.values()
    ]
    return json_response(ModelList(models=listed))


async def tasks(request: Request) -> Response:
    """Every task with the JSON Schema of its params."""
    catalog = handler_of(request).catalog
    return json_response({"tasks": [{"name": name, "schema": task_schema(name, catalog)} for name in TASKS]})


def task_schema(task: str, catalog: Catalog) -> dict[str, Any]:
    """The JSON Schema of a task's params; what a model's defaults fill in is not required."""
    schema = msgspec.json.schema(TASKS[task])
    definition: dict[str, Any] = schema["$defs"][TASKS[task].__name__]
    filled = {"seed"} | {name for model in catalog.of_task(task) for name in model.defaults}
    definition["required"] = [name for name in definition.get("required", []) if name not in filled]
    return definition


ROUTES = [
    Route("/v1/workers", index, methods=["GET"]),
    Route("/v1/workers/{worker}/release", release, methods=["POST"]),
    Route("/v1/models", models, methods=["GET"]),
    Route("/v1/tasks", tasks, methods=["GET"]),
]

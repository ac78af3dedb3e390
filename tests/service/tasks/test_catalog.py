from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.tasks.catalog import EMBEDDED, Catalog, InvalidParams, Model, complete
from service.tasks.registry import TASKS

MODELS = st.builds(
    Model,
    id=st.sampled_from("abc"),
    tasks=st.lists(st.sampled_from([*TASKS]), min_size=1, max_size=2, unique=True).map(tuple),
    title=st.text(max_size=3),
    source=st.none(),
)


@given(first=st.lists(MODELS), added=st.lists(MODELS))
def test_what_is_added_replaces_by_id_and_becomes_the_default(first: list[Model], added: list[Model]) -> None:
    catalog, newest = Catalog(first).extended(added), {model.id: model for model in added}
    assert set(catalog) == {model.id for model in [*first, *added]}
    assert all(catalog[name] == model for name, model in newest.items())
    for task in TASKS:
        able = [model for model in newest.values() if task in model.tasks]
        assert catalog.default(task) == (able[0] if able else Catalog(catalog.values()).default(task))
        assert all(task in model.tasks for model in catalog.of_task(task))


def test_each_task_has_the_embedded_model_that_can_do_it() -> None:
    assert [(task, [m.id for m in EMBEDDED.of_task(task)]) for task in ("text-to-image", "pretend")] == [
        ("text-to-image", ["demo"]),
        ("pretend", ["pretend"]),
    ]
    assert EMBEDDED.default("nothing") is None


def test_a_model_of_several_tasks_lends_each_the_defaults_that_it_has() -> None:
    both = msgspec.structs.replace(EMBEDDED["demo"], tasks=("text-to-image", "pretend"))
    pretended = complete("pretend", both, {}, 7)
    assert msgspec.to_builtins(pretended) == {"steps": 20, "step_s": 0.0, "outcome": "completed"}
    with pytest.raises(InvalidParams, match="guidance: there is no such field"):
        complete("pretend", both, {"guidance": 2.0}, 7)

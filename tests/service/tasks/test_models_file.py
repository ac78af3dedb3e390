from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.tasks.catalog import Lora, Scheduler, Weights
from service.tasks.models_file import BadModelsFile, parsed, read_models

FILE = Path("/etc/safelight/models.toml")
GOOD = """
[models.sdxl]
title = "SDXL 1.0"
source = "./weights/sdxl"
tasks = ["text-to-image"]
dtype = "float16"
memory_bytes = "12 GiB"
sizes = [[1024, 1024], [1152, 896]]
defaults = { steps = 30, guidance = 5.0, width = 1024, height = 1024 }

[models.tiny]
source = "/data/tiny"
tasks = ["pretend", "text-to-image"]
memory_bytes = 1000
"""


def problems(text: str) -> list[str]:
    with pytest.raises(BadModelsFile) as raised:
        parsed(text, FILE)
    return raised.value.problems


def entry(fields: str) -> str:
    return f'[models.x]\nsource = "w"\ntasks = ["text-to-image"]\n{fields}'


def test_an_entry_says_what_a_model_is_and_paths_count_from_the_file() -> None:
    sdxl, tiny = parsed(GOOD, FILE)
    assert (sdxl.id, sdxl.title, sdxl.source) == ("sdxl", "SDXL 1.0", "/etc/safelight/weights/sdxl")
    assert (sdxl.dtype, sdxl.memory_bytes, sdxl.sizes) == ("float16", 12 << 30, ((1024, 1024), (1152, 896)))
    assert sdxl.defaults == {"steps": 30, "guidance": 5.0, "width": 1024, "height": 1024}
    assert (tiny.title, tiny.source, tiny.tasks) == ("tiny", "/data/tiny", ("pretend", "text-to-image"))
    assert (tiny.memory_bytes, tiny.defaults) == (1000, {})


WHOLE = f"""
[models.sdxl]
source = "stabilityai/stable-diffusion-xl-base-1.0"
revision = "{"a" * 40}"
tasks = ["text-to-image"]
variant = "fp16"
pipeline = "StableDiffusionXLPipeline"
dtype = "float16"
offload = "model"
compile = true
licence = "CreativeML Open RAIL++-M"
scheduler = {{ class = "EulerDiscreteScheduler", config = {{ timestep_spacing = "trailing" }} }}
vae = {{ source = "./vae" }}

[[models.sdxl.loras]]
name = "ink"
source = "someone/ink"
revision = "{"b" * 40}"
file = "ink.safetensors"
weight = 0.8

[models.one]
source = "one.safetensors"
config = {{ source = "/data/sdxl" }}
tasks = ["text-to-image"]
"""


def test_an_entry_says_how_a_model_is_loaded() -> None:
    sdxl, one = parsed(WHOLE, FILE)
    assert (sdxl.source, sdxl.revision) == ("stabilityai/stable-diffusion-xl-base-1.0", "a" * 40)
    assert (sdxl.variant, sdxl.pipeline, sdxl.offload, sdxl.compile) == (
        "fp16", "StableDiffusionXLPipeline", "model", True,
    )  # fmt: skip
    assert sdxl.scheduler == Scheduler(class_name="EulerDiscreteScheduler", config={"timestep_spacing": "trailing"})
    assert sdxl.vae == Weights(source="/etc/safelight/vae")
    assert sdxl.loras == (
        Lora(name="ink", source="someone/ink", revision="b" * 40, file="ink.safetensors", weight=0.8),
    )
    assert list(sdxl.parts) == ["source", "vae", "loras.ink"]
    assert (one.source, one.config) == ("/etc/safelight/one.safetensors", Weights(source="/data/sdxl"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "/etc/safelight/models.toml: it is not TOML"),
        ("[model.x]", "model: there is no such table; use [models.ID]"),
        ("models = 3", "models: 3 is not accepted: use a table [models.ID] for each model"),
        ("models.x = 3", "models.x: 3 is not accepted: use a table [models.x]"),
        (
            '[models."a/b"]\nsource="w"\ntasks=["pretend"]',
            "models.a/b: the id is not accepted: use 1 to 64 letters",
        ),
        ("[models.x]\ntasks=['pretend']", "models.x.source: is required and was not given"),
        ("[models.x]\nsource='w'", "models.x.tasks: is required and was not given"),
        ("[models.x]\nsource=''\ntasks=['pretend']", "models.x.source: '' is not accepted: use a folder"),
        (
            "[models.x]\nsource='w'\ntasks=[]",
            "models.x.tasks: [] is not accepted: name one or more of text-to-image",
        ),
        (
            entry("revision = 'main'"),
            "models.x.source: 'w' is not accepted with a revision: use org/name of the hub",
        ),
        (entry("config = { source = '/c' }"), "models.x.config: is only for a single file, and source is 'w'"),
        (entry("vae = { source = 'a/b' }"), "models.x.vae.revision: is required for a/b of the hub: the 40 hex"),
        (entry("vae = { sorce = './v' }"), "models.x.vae.sorce: there is no such field; did you mean source?"),
        (
            entry("vae = { source = 'v.safetensors' }"),
            "models.x.vae.source: 'v.safetensors' is not accepted: use a",
        ),
        (
            entry("pipeline = 'os.system'"),
            "models.x.pipeline: 'os.system' is not accepted: use the name of a class",
        ),
        (entry("scheduler = { config = {} }"), "models.x.scheduler.class: is required and was not given"),
        (entry("loras = [{ source = 'l' }]"), "models.x.loras[0].name: is required and was not given"),
        (entry("loras = [{ name = 'a.b', source = 'l' }]"), "models.x.loras[0].name: 'a.b' is not accepted: use"),
        (
            entry("loras = [{ name = 'a', source = 'l' }, { name = 'a', source = 'm' }]"),
            "models.x.loras[1].name: 'a' is not accepted: it is taken",
        ),
        (
            entry("loras = [{ name = 'a', source = 'l.pt' }]"),
            "'l.pt' is not accepted: pickled weights are never read",
        ),
        (
            entry("device_map = 'balanced'\noffload = 'model'"),
            "models.x.device_map: does not go with offload 'model'",
        ),
        (entry("offload = 'all'"), "models.x.offload: 'all' is not accepted: invalid enum value"),
        (entry("path = 'w'"), "models.x.path: there is no such field; use "),
        (entry("memory_byte = 3"), "models.x.memory_byte: there is no such field; did you mean memory_bytes?"),
        (entry("id = 'y'"), "models.x.id: there is no such field"),
        (entry("dtype = 'int8'"), "models.x.dtype: 'int8' is not accepted: invalid enum value"),
        (entry("memory_bytes = '12 GB RAM'"), "models.x.memory_bytes: '12 GB RAM' is not accepted: use a number"),
        (entry("sizes = [[512]]"), "models.x.sizes"),
        (entry("defaults = { step = 3 }"), "models.x.defaults.step: none of the tasks has this parameter; did you"),
        (
            entry("defaults = { steps = 0 }"),
            "models.x.defaults.steps: 0 is not accepted by text-to-image: expected",
        ),
        (
            entry("sizes = [[512, 512]]\ndefaults = { width = 64, height = 64 }"),
            "models.x.defaults.width: 64 x 64 px is not in sizes; use one of [[512, 512]]",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_file_entry_field_value_and_what_to_use(text: str, says: str) -> None:
    (line,) = problems(text)
    assert line.startswith(str(FILE))
    assert says in line
    assert "\n" not in line


def test_an_unknown_task_is_told_with_the_nearest() -> None:
    text = "[models.x]\nsource = 'w'\ntasks = ['text-to-imag']"
    assert problems(text) == [
        f"{FILE}: models.x.tasks: there is no task 'text-to-imag'; did you mean text-to-image?"
    ]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("source = 'org/name'", "revision: is required for org/name of the hub"),
        ("source = 'org/name'\nrevision = 'main'", "revision: 'main' is not accepted: use the 40 hex digits"),
        ("source = 'model.ckpt'", "source: 'model.ckpt' is not accepted: pickled weights are never read"),
        ("source = 'model.safetensors'", "config: is required with a single file"),
    ],
)
def test_a_source_is_a_folder_a_safetensors_file_or_a_commit_of_the_hub(fields: str, says: str) -> None:
    (line,) = problems(f"[models.x]\ntasks = ['text-to-image']\n{fields}")
    assert f"models.x.{says}" in line


def test_every_mistake_of_the_file_is_told_at_once() -> None:
    text = "[models.a]\nsource = 3\ndtype = 'x'\n[models.b]\nsource = 'w'\ntasks = ['pretend']\nsise = 3"
    assert [line.split(": ")[1] for line in problems(text)] == [
        "models.a.source", "models.a.dtype", "models.a.tasks", "models.b.sise",
    ]  # fmt: skip


@given(st.dictionaries(st.text(max_size=4), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
), max_size=4))  # fmt: skip
def test_whatever_a_field_holds_is_read_or_refused_with_its_name(fields: dict[str, Any]) -> None:
    from service.tasks.models_file import FIELDS, _field_problems

    for field in FIELDS:
        for value in fields.values():
            assert all(
                name.partition(".")[0].partition("[")[0] == field for name, _ in _field_problems(field, value)
            )


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadModelsFile, match=r"none\.toml cannot be read: No such file"):
        read_models(tmp_path / "none.toml")

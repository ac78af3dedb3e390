"""Texts from a tiny Llama."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.tasks.enhance import Enhance
from service.worker.models import ModelMissing
from service.worker.run import Cancelled
from tests.service.worker.pipelines.desk import Desk, tiny_at


@pytest.fixture(scope="module", params=[True, False], ids=["chat", "plain"])
def writer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from service.worker.pipelines.enhance import load
    from tests.tiny.language import save_language_model

    folder = tmp_path_factory.mktemp("language")
    save_language_model(folder, has_template=request.param)
    return load(tiny_at(folder), "cpu", 1)


def params(**changed: Any) -> Enhance:
    return Enhance(**{"prompt": "a red star", "seed": 5, "max_new_tokens": 12, "temperature": 1.0, **changed})


def written(writer: Any, folder: Path, **changed: Any) -> str:
    (file,) = Desk(folder, params(**changed)).result(writer).export()
    return (folder / file.name).read_text()


def test_a_prompt_becomes_a_text_that_only_the_file_holds(writer: Any, tmp_path: Path) -> None:
    desk = Desk(tmp_path, params())
    made = desk.result(writer)
    (file,) = made.export()
    text = (tmp_path / file.name).read_text()
    assert (file.media_type, file.bytes) == ("text/plain", len(text.encode()))
    assert text
    assert not text.startswith("a red star")  # only what is new
    assert set(made.facts) == {"seed", "dtype", "tokens", "model_digest"}
    assert made.facts["tokens"] <= 12
    assert desk.phases == ["preparing", "writing"]
    assert desk.steps[0] == (0, 12)


def test_the_seed_chooses_the_words_and_no_temperature_the_likeliest(writer: Any, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(99)
    state = torch.get_rng_state()
    first, again, other = (written(writer, tmp_path, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len({written(writer, tmp_path, seed=seed, temperature=0.0) for seed in (1, 2)}) == 1
    assert torch.equal(torch.get_rng_state(), state)


def test_a_cancel_lands_within_a_token_and_leaves_the_model_as_it_was(writer: Any, tmp_path: Path) -> None:
    before = written(writer, tmp_path)
    desk = Desk(tmp_path, params(max_new_tokens=400), halt_at=0)
    with pytest.raises(Cancelled):
        desk.result(writer)
    assert desk.run.step == 0
    assert written(writer, tmp_path) == before


def test_a_damaged_folder_is_a_missing_model(tmp_path: Path) -> None:
    from service.worker.pipelines.enhance import load
    from tests.tiny.language import save_language_model

    save_language_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelMissing, match="the weights of model tiny cannot be loaded") as raised:
        load(tiny_at(tmp_path), "cpu", 1)
    assert str(tmp_path) not in str(raised.value)

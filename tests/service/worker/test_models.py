from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from service.tasks.catalog import EMBEDDED
from service.worker.models import ModelMissing, available, by_task, check, is_real, versions


def test_every_model_of_the_catalogue_can_run_here() -> None:
    assert available(EMBEDDED.values()) == tuple(EMBEDDED.values())


def test_models_are_grouped_by_task() -> None:
    pictures = ("text-to-image", "image-to-image", "inpaint")
    assert by_task(EMBEDDED.values()) == {**dict.fromkeys(pictures, ("demo",)), "pretend": ("pretend",)}


def test_a_folder_without_weights_is_missing_without_telling_its_path(tmp_path: Path) -> None:
    model = msgspec.structs.replace(EMBEDDED["demo"], source=str(tmp_path))
    with pytest.raises(ModelMissing, match=r"its folder has no model_index\.json") as raised:
        check(model)
    assert str(tmp_path) not in str(raised.value)


def test_a_missing_library_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.worker.models.LIBRARIES", ("no_such_library",))
    with pytest.raises(ModelMissing, match=r"no_such_library.*pip install 'safelight\[worker\]'"):
        check(EMBEDDED["demo"])
    check(EMBEDDED["pretend"])


def test_pretend_needs_nothing() -> None:
    assert [is_real(EMBEDDED[name]) for name in ("demo", "pretend")] == [True, False]


def test_versions_name_what_a_picture_depends_on() -> None:
    assert set(versions()) == {"safelight", "torch", "diffusers", "transformers"}

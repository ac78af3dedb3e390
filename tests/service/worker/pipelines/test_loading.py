"""What an entry of the catalogue becomes: tiny pipelines of the real classes, loaded from folders and files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from service.tasks.catalog import Lora, Model, Scheduler, Weights
from service.worker.models import ModelMissing, check

LORA_LAYERS = ["to_q", "to_v"]


@pytest.fixture(scope="module")
def loading() -> Any:
    """The module; importing it loads torch."""
    from service.worker.pipelines import loading

    return loading


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion as a folder."""
    from tests.tiny.images import picture_pipeline

    folder = tmp_path_factory.mktemp("models") / "sd"
    picture_pipeline("sd").save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return


def entry(source: Path, **fields: Any) -> Model:
    return Model(id="tiny", tasks=("text-to-image",), title="", source=str(source), **fields)


def pixels(pipe: Any) -> np.ndarray:
    """What the pipeline draws for a fixed seed."""
    import torch

    generator = torch.Generator("cpu").manual_seed(5)
    words = {"num_inference_steps": 2, "guidance_scale": 1.0, "generator": generator, "output_type": "np"}
    drawn = pipe("a red circle", height=32, width=32, **words).images[0]
    return np.asarray(drawn)


@pytest.fixture(scope="module")
def plain(loading: Any, saved: Path) -> np.ndarray:
    return pixels(loading.load(entry(saved), "cpu", 1).pipe)


def test_what_the_hub_has_given_is_loaded_from_its_cache_without_asking_it(
    loading: Any, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: np.ndarray
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    shutil.copytree(saved, tmp_path / "hub" / "models--org--tiny" / "snapshots" / ("a" * 40))
    model = msgspec.structs.replace(entry(saved), source="org/tiny", revision="a" * 40)
    check(model)
    assert np.array_equal(pixels(loading.load(model, "cpu", 1).pipe), plain)


def test_a_scheduler_of_the_entry_keeps_the_settings_of_the_models_own(loading: Any, saved: Path) -> None:
    wanted = Scheduler(class_name="EulerDiscreteScheduler", config={"timestep_spacing": "trailing"})
    scheduler = loading.load(entry(saved, scheduler=wanted), "cpu", 1).pipe.scheduler
    assert type(scheduler).__name__ == "EulerDiscreteScheduler"
    assert scheduler.config.timestep_spacing == "trailing"
    assert scheduler.config.beta_schedule == "scaled_linear"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"scheduler": Scheduler(class_name="NoScheduler")}, "scheduler NoScheduler is no class of diffusers"),
        ({"scheduler": Scheduler(class_name="UNet2DModel")}, "UNet2DModel is no scheduler; name one such as"),
        (
            {"scheduler": Scheduler(class_name="DDIMScheduler", config={"spacing": "trailing"})},
            "DDIMScheduler has no setting spacing; use num_train_timesteps",
        ),
        ({"pipeline": "NoPipeline"}, "pipeline NoPipeline is no class of diffusers"),
        ({"pipeline": "UNet2DModel"}, "UNet2DModel is no pipeline; name one such as StableDiffusionXLPipeline"),
    ],
)
def test_a_class_that_diffusers_does_not_have_is_named(
    loading: Any, saved: Path, fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(ModelMissing, match=says):
        loading.load(entry(saved, **fields), "cpu", 1)


def test_the_pipeline_class_of_the_entry_goes_before_that_of_the_folder(loading: Any, saved: Path) -> None:
    pipe = loading.load(entry(saved, pipeline="StableDiffusionImg2ImgPipeline"), "cpu", 1).pipe
    assert type(pipe).__name__ == "StableDiffusionImg2ImgPipeline"


def test_a_vae_of_the_entry_replaces_the_models_own(
    loading: Any, saved: Path, tmp_path: Path, plain: np.ndarray
) -> None:
    import diffusers
    import torch

    torch.manual_seed(1)
    diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).save_pretrained(tmp_path / "vae")  # fmt: skip
    folder = tmp_path / "sd"
    shutil.copytree(saved, folder, ignore=shutil.ignore_patterns("vae"))
    model = entry(folder, vae=Weights(source=str(tmp_path / "vae")))
    check(model)
    pipe = loading.load(model, "cpu", 1).pipe
    assert type(pipe.vae).__name__ == "AutoencoderTiny"
    assert not np.array_equal(pixels(pipe), plain)


def save_lora(saved: Path, folder: Path, name: str = "style.safetensors") -> Path:
    """A LoRA with weights that are felt."""
    import diffusers
    import torch
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipe = diffusers.StableDiffusionPipeline.from_pretrained(saved, torch_dtype=torch.float32)
    torch.manual_seed(3)
    pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=LORA_LAYERS, init_lora_weights=False))
    layers = get_peft_model_state_dict(pipe.unet)
    diffusers.StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers, weight_name=name)
    return folder / name


def test_a_lora_is_taken_with_its_weight(loading: Any, saved: Path, tmp_path: Path, plain: np.ndarray) -> None:
    file = save_lora(saved, tmp_path)
    drawn = {}
    for weight in (0.0, 0.5, 1.0):
        lora = Lora(source=str(file), name="style", weight=weight)
        drawn[weight] = pixels(loading.load(entry(saved, loras=(lora,)), "cpu", 1).pipe)
    assert np.allclose(drawn[0.0], plain, atol=1e-5)
    assert not np.allclose(drawn[1.0], plain, atol=1e-3)
    assert not np.allclose(drawn[1.0], drawn[0.5], atol=1e-4)


def test_the_only_file_of_a_folder_is_its_lora_and_one_of_several_is_named(
    loading: Any, saved: Path, tmp_path: Path
) -> None:
    save_lora(saved, tmp_path, "one.safetensors")
    lora = Lora(source=str(tmp_path), name="style")
    check(entry(saved, loras=(lora,)))
    save_lora(saved, tmp_path, "two.safetensors")
    with pytest.raises(ModelMissing, match=r"loras\.style: its folder has several files; name one as file"):
        check(entry(saved, loras=(lora,)))
    loaded = loading.load(entry(saved, loras=(msgspec.structs.replace(lora, file="two.safetensors"),)), "cpu", 1)
    assert loaded.pipe.get_active_adapters() == ["style"]


def test_a_lora_of_another_network_is_refused(loading: Any, saved: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"unet.nowhere.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    lora = Lora(source=str(tmp_path / "other.safetensors"), name="other")
    with pytest.raises(ModelMissing, match="LoRA other"):
        loading.load(entry(saved, loras=(lora,)), "cpu", 1)


def test_a_lora_needs_peft(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.worker.models.LORA_LIBRARIES", ("no_such_library",))
    lora = Lora(source=str(tmp_path), name="style")
    with pytest.raises(ModelMissing, match=r"no_such_library.*pip install 'safelight\[lora\]'"):
        check(entry(saved, loras=(lora,)))


@pytest.mark.parametrize("offload", ["none", "model", "sequential", "group"])
def test_offloading_changes_no_pixel(loading: Any, saved: Path, offload: Any, plain: np.ndarray) -> None:
    assert np.array_equal(pixels(loading.load(entry(saved, offload=offload), "cpu", 1).pipe), plain)


def test_what_is_compiled_are_the_blocks_of_the_denoiser(loading: Any, saved: Path) -> None:
    from service.worker.pipelines.watch import _blocks

    pipe = loading.load(entry(saved, compile=True), "cpu", 1).pipe
    compiled = [m for m in pipe.unet.modules() if m._compiled_call_impl is not None]
    assert {type(module).__name__ for module in compiled} == {"BasicTransformerBlock"}
    assert _blocks(pipe.unet) == []
    assert _blocks(pipe.vae) != []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_on_the_cpu_it_is_always_float32(loading: Any, saved: Path, dtype: Any) -> None:
    import torch

    loaded = loading.load(entry(saved, dtype=dtype), "cpu", 1)
    assert loaded.dtype == "float32"
    assert loaded.pipe.unet.dtype == loaded.pipe.text_encoder.dtype == torch.float32


def test_the_variant_is_loaded_where_there_is_one(loading: Any, saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sd"
    shutil.copytree(saved, folder)
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_name("diffusion_pytorch_model.fp16.safetensors"))
    loading.load(entry(folder, variant="fp16"), "cpu", 1)
    with pytest.raises(ModelMissing, match="unet: there are no weights"):
        check(entry(folder))
    check(entry(saved, variant="fp16"))
    loading.load(entry(saved, variant="fp16", vae=Weights(source=str(saved / "vae"))), "cpu", 1)


def test_weights_of_another_shape_than_the_config_says_are_a_damaged_model(
    loading: Any, saved: Path, tmp_path: Path
) -> None:
    shutil.copytree(saved / "vae", tmp_path / "vae")
    config = json.loads((tmp_path / "vae" / "config.json").read_text())
    config["block_out_channels"] = [64, 64]
    (tmp_path / "vae" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelMissing, match="the weights of model tiny cannot be loaded") as raised:
        loading.load(entry(saved, vae=Weights(source=str(tmp_path / "vae"))), "cpu", 1)
    assert str(tmp_path) not in str(raised.value)


def test_a_single_file_is_loaded_with_a_folder_for_what_it_does_not_hold(
    loading: Any, saved: Path, tmp_path: Path, plain: np.ndarray
) -> None:
    config = tmp_path / "config"
    shutil.copytree(saved, config)
    (config / "unet" / "diffusion_pytorch_model.safetensors").rename(tmp_path / "one.safetensors")
    vae = Weights(source=str(saved / "vae"))
    model = entry(tmp_path / "one.safetensors", config=Weights(source=str(config)), vae=vae)
    check(model)
    assert np.array_equal(pixels(loading.load(model, "cpu", 1).pipe), plain)


def test_what_neither_the_file_nor_its_folder_has_is_named(loading: Any, saved: Path, tmp_path: Path) -> None:
    config = tmp_path / "config"
    shutil.copytree(saved, config, ignore=shutil.ignore_patterns("*.safetensors"))
    model = entry(saved / "unet" / "diffusion_pytorch_model.safetensors", config=Weights(source=str(config)))
    with pytest.raises(ModelMissing, match="nor its config folder has the weights of text_encoder"):
        loading.load(model, "cpu", 1)


def test_pickles_beside_a_single_file_are_refused(saved: Path, tmp_path: Path) -> None:
    config = tmp_path / "config"
    shutil.copytree(saved, config)
    weights = config / "text_encoder" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    model = entry(saved / "unet" / "diffusion_pytorch_model.safetensors", config=Weights(source=str(config)))
    with pytest.raises(ModelMissing, match=r"text_encoder: there are only pickled weights \(pytorch_model\.bin\)"):
        check(model)


def test_code_of_a_folder_is_never_run(saved: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for change in ("component", "pipeline"):
        folder = tmp_path / change
        shutil.copytree(saved, folder)
        index = json.loads((folder / "model_index.json").read_text())
        if change == "component":
            index["unet"] = ["evil", "Evil"]
        else:
            index["_class_name"] = ["evil", "Evil"]
        (folder / "model_index.json").write_text(json.dumps(index))
        for place in (folder, folder / "unet"):
            (place / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Evil: pass\n")
        with pytest.raises(ModelMissing, match="code from folders is never run"):
            check(entry(folder))
    assert not ran.exists()


def test_a_component_of_another_library_is_refused(loading: Any, saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sd"
    shutil.copytree(saved, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["subprocess", "Popen"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelMissing, match="component scheduler is Popen of subprocess"):
        loading.load(entry(folder), "cpu", 1)


def test_the_digest_is_of_the_contents_and_not_of_the_place(loading: Any, saved: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    first, second = (loading.load(entry(folder), "cpu", 1).digest for folder in (saved, copy))
    assert first == second
    assert len(first) == 64
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert loading.load(entry(copy), "cpu", 1).digest != first

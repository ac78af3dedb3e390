"""The task enhance: any transformers folder with a causal language model and its tokenizer."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import transformers

from service.tasks.catalog import Model
from service.tasks.enhance import Enhance
from service.worker import encoding
from service.worker.digests import model_digest
from service.worker.engine.denoiser import own_network
from service.worker.engine.engine import current
from service.worker.frames import SpooledFile
from service.worker.pipelines.loading import dtype_on, folder_of, reading, settle_libraries
from service.worker.pipelines.watch import Watch, seeing
from service.worker.run import Made, Run

__all__ = ["compute", "load"]

MEDIA_TYPE = "text/plain"

INSTRUCTION = (
    "You improve prompts for an image generator. Keep what the user's prompt says; add what is missing of subject, "
    "setting, light, colours, style and composition. Answer with the new prompt only."
)


class Writer:
    """A language model on its device."""

    def __init__(self, model: Any, tokenizer: Any, dtype: str, digest: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.dtype = dtype
        self.digest = digest


def load(model: Model, device: str, threads: int) -> Writer:
    """Load the model's folder onto `device`. Raises ModelMissing, or what torch raises for want of memory."""
    settle_libraries(threads)
    folder, dtype, digest = folder_of(model), dtype_on(device, model), model_digest(model)
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with reading(model.id):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
        network = transformers.AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, dtype=getattr(torch, dtype), **options
        )
    return Writer(network.to(device).eval(), tokenizer, dtype, digest)


def compute(run: Run, writer: Writer) -> Made:
    """Write the text. Raises Cancelled within a token of being told to halt; the model stays usable."""
    params = run.params
    assert isinstance(params, Enhance), f"task {Enhance.TASK} got {type(params).__name__}"
    run.enter("preparing")
    tokens = _tokens(writer.tokenizer, params.prompt).to(writer.model.device)
    watch = Watch(run, params.max_new_tokens, 1, lambda latents: None, phase=params.STEPPING)
    choice = transformers.LogitsProcessorList(
        [_Dice(params.seed, params.temperature)] if params.temperature else []
    )
    with seeing({"model": writer.model}, watch):
        own = own_network(writer.model, current(), watch.before_denoiser)
        written = own.generate(
            **tokens, max_new_tokens=params.max_new_tokens, do_sample=False, logits_processor=choice
        )
    new = written[0, tokens["input_ids"].shape[1] :]
    text = writer.tokenizer.decode(new, skip_special_tokens=True).strip()
    facts = {"seed": params.seed, "dtype": writer.dtype, "model_digest": writer.digest, "tokens": len(new)}
    return Made(facts, partial(_export, run, text))


class _Dice(transformers.LogitsProcessor):
    """Makes the likeliest next token one drawn at random, by the Gumbel-max trick.

    With a generator of the job's own: transformers itself draws from torch's, which all jobs of a thread share.
    """

    def __init__(self, seed: int, temperature: float) -> None:
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._temperature = temperature

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        noise = -torch.empty(scores.shape).exponential_(generator=self._generator).log()  # (batch, tokens)
        return scores / self._temperature + noise.to(scores)


def _tokens(tokenizer: Any, prompt: str) -> Any:
    """The prompt as the model was taught to be asked; one without a chat template goes on where the prompt ends."""
    if not tokenizer.chat_template:
        return tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    # in one message: some templates refuse the role system
    messages = [{"role": "user", "content": f"{INSTRUCTION}\n\n{prompt}"}]
    return tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )


def _export(run: Run, text: str) -> tuple[SpooledFile, ...]:
    return (encoding.spool(run.folder, text.encode(), MEDIA_TYPE),)

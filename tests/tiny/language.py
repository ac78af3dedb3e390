"""A tiny Llama with a tokenizer of whole words: it answers with nonsense, but with the real classes."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.tiny.images import WORDS
from tests.tiny.seeded import seeded

TEMPLATE = "{% for message in messages %}<{{ message.role }}> {{ message.content }} {% endfor %}<assistant>"


def save_language_model(folder: Path, *, has_template: bool = True) -> None:
    """Write the model, always with the same weights, and its tokenizer into `folder`."""
    words = ["<pad>", "<unk>", "<end>", "<system>", "<user>", "<assistant>", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>", pad_token="<pad>"
    )
    if has_template:
        fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
    )
    seeded(lambda: LlamaForCausalLM(config)).eval().save_pretrained(folder)

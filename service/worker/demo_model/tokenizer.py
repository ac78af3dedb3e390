"""The demo model's tokenizer: CLIP's byte-level BPE, trained on the grammar's own words.

The training runs until every word is whole, so by construction each word is one token; anything else falls
apart into bytes, which costs tokens but never fails.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

TOKENS = 24  # the grammar's longest prompt takes 18, with both specials; the rest is room for unknown words
_WORD_END = "</w>"
_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(words: Iterable[str], folder: Path) -> CLIPTokenizer:
    """A tokenizer with one token per word, written to folder (vocab.json, merges.txt) and loaded from it."""
    merges = _train_merges(words)
    alphabet = list(bytes_to_unicode().values())
    vocabulary = alphabet + [byte + _WORD_END for byte in alphabet]
    vocabulary += ["".join(pair) for pair in merges] + [_BEGIN, _END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""]))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, "bos_token": _BEGIN}
    settings |= {"eos_token": _END, "pad_token": _END, "unk_token": _END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return CLIPTokenizer.from_pretrained(folder)


def _train_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Byte pair merges by falling frequency (then alphabet) until every word is one symbol."""
    spelled = [[*word[:-1], word[-1] + _WORD_END] for word in sorted(set(words))]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for symbols in spelled for pair in pairwise(symbols)):
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        spelled = [_merge(symbols, merges[-1]) for symbols in spelled]
    return merges


def _merge(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged

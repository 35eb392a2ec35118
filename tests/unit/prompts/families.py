"""Tokenizers of the families that people train on, small enough to build in a test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers
from tokenizers import pre_tokenizers as splitters
from transformers import PreTrainedTokenizerFast

from t2g_ray.records.corpus import build_tokenizer

CORPUS = [
    "Extract the entities and relations of the text below.\nEntity types: person, company\n",
    'Text:\nAnn works for Acme. {"entities":[{"id":0,"text":"Ann","type":"person"}]} im_end INST',
] * 4

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
INST = (
    "{{ '<s>' }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] + '</s>' }}"
    "{% else %}{{ '[INST] ' + m['content'] | trim + ' [/INST]' }}{% endif %}{% endfor %}"
)
BERT = (
    "{% for m in messages %}{{ '[CLS] ' + m['role'] + ' ' + m['content'] + ' [SEP]' }}{% endfor %}"
    "{{ '<answer>' }}"
)


def _special(*strings: str) -> list[AddedToken]:
    return [AddedToken(string, special=True, normalized=False) for string in strings]


@cache
def byte_level() -> PreTrainedTokenizerFast:
    """Byte-level BPE whose think and tool tags are added tokens and not special ones, as Qwen's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = splitters.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = splitters.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet)
    )
    tokenizer.add_special_tokens(_special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    plain = ("<think>", "</think>", "<tool_call>", "<\uff5cUser\uff5c>", "Jentek")
    tokenizer.add_tokens([AddedToken(string, normalized=False) for string in plain])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHATML,
    )


@cache
def sentencepiece() -> PreTrainedTokenizerFast:
    """BPE with byte fallback and a blank before the text, control tokens in the vocabulary, as
    Llama's; one of its control tokens is also what two of its pieces join to."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    names = ["<unk>", "<s>", "</s>"]
    tokenizer.train_from_iterator(
        [*CORPUS, "[/INST] [/INST]"], trainers.BpeTrainer(vocab_size=400, special_tokens=names)
    )
    state = json.loads(tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    for number in range(256):
        vocabulary[f"<0x{number:02X}>"] = len(vocabulary)
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens(_special("<s>", "</s>", "[INST]", "[/INST]"))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        chat_template=INST,
    )


@cache
def unigram() -> PreTrainedTokenizerFast:
    """Unigram whose control tokens are pieces that an ordinary text can reach, as XLM-R's."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = splitters.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    names = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(
            vocab_size=300,
            special_tokens=names,
            unk_token="<unk>",
            initial_alphabet=[chr(code) for code in range(33, 127)],
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        chat_template=INST,
    )


@cache
def wordpiece() -> PreTrainedTokenizerFast:
    """WordPiece of lower case; one control token is matched after the text is lowered."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = splitters.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    names = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.WordPieceTrainer(
            vocab_size=300,
            special_tokens=names,
            initial_alphabet=[chr(code) for code in range(33, 127)],
        ),
    )
    tokenizer.add_tokens([AddedToken("<answer>", special=True, normalized=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
        pad_token="[PAD]",
        chat_template=BERT,
    )


FAMILIES: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte level": byte_level,
    "sentencepiece": sentencepiece,
    "unigram": unigram,
    "wordpiece": wordpiece,
    "embedded": cache(build_tokenizer),
}


def families() -> Iterator[tuple[str, PreTrainedTokenizerFast]]:
    """Names and tokenizers of all families."""
    for name, build in FAMILIES.items():
        yield name, build()

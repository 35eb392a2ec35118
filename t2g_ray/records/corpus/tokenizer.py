"""The embedded world -> a tokenizer of a few hundred pieces, built and not trained.

A name, a type, a phrase between two names and a joint of the canonical JSON are one token each,
so a name is the same token in the text and between JSON quotes. Everything else is spelled in
UTF-8 bytes. Invariant: decode(encode(text)) == text, for any text free of special tokens.

A policy with this vocabulary learns to copy the names that it was trained on and no others: the
names of the split `heldout_names` have tokens, but training only ever lowers their odds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from t2g_ray.records.corpus.names import ENTITY_TYPES, HELDOUT_NAMES, NAMES, RELATION_ENDS
from t2g_ray.records.corpus.templates import ALL_TEMPLATES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD_TOKEN = "<|pad|>"
END_TOKEN = "<|end|>"
SPECIAL_TOKENS = (PAD_TOKEN, END_TOKEN, "<|system|>", "<|user|>", "<|assistant|>")

# One token opens a turn and only an assistant turn is closed. `enable_thinking` and other
# arguments are accepted and change nothing: the tiny policy answers at once.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

# Entity ids from here on are spelled in bytes; no text of the world has so many entities.
NUM_JOINED_IDS = 20

# Encoding takes the pieces with the best sum of scores, so equal scores mean fewest tokens.
_SCORE = -1.0


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the embedded policy: 538 tokens, the same in every process."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # Every byte is shown as one printable character, which makes all 256 of them pieces too.
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    shown = ("".join(part for part, _ in byte_level.pre_tokenize_str(p)) for p in _pieces())
    pieces = dict.fromkeys([*sorted(byte_level.alphabet()), *shown])
    tokenizer = Tokenizer(models.Unigram([(piece, _SCORE) for piece in pieces]))
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_TOKEN,
        pad_token=PAD_TOKEN,
        extra_special_tokens=list(SPECIAL_TOKENS[2:]),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def _pieces() -> Iterator[str]:
    """The pieces in id order; a piece may come twice."""
    yield ", "
    yield from ENTITY_TYPES
    yield from RELATION_ENDS
    yield from _json_joints()
    for template in ALL_TEMPLATES:
        yield from template.phrases
        yield template.phrases[-1] + " "  # the sentence goes on with another
    for names in (NAMES, HELDOUT_NAMES):
        for type_ in ENTITY_TYPES:
            yield from names[type_]


def _json_joints() -> Iterator[str]:
    """What stands between the values of the canonical JSON."""
    yield '{"entities":[],"relations":[]}'
    yield '{"entities":[{"id":0,"text":"'
    yield from (f'"}},{{"id":{index},"text":"' for index in range(1, NUM_JOINED_IDS))
    yield '","type":"'
    yield '"}],"relations":[]}'
    yield '"}],"relations":[{"head":"'
    yield '","tail":"'
    yield '"},{"head":"'
    yield '"}]}'

"""Messages state what is wanted, prompts are whole or refused, answers end with one end token."""

import pickle
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.graph.parsing import Parsed, parse_completion
from t2g_ray.prompts.control import control_tokens
from t2g_ray.prompts.messages import PromptTooLong, build_messages, encode_answer, encode_prompt
from t2g_ray.types import Record
from tests.unit.prompts.families import byte_level

RECORD = Record(
    text="Ann works for Acme.",
    entity_types=("person", "company"),
    relation_types=("works for", "lives in"),
    graph=Graph((Entity(0, "Ann", "person"),), ()),
)


class CharacterTokenizer:
    """One id a character; the chat template puts role marks around each message."""

    eos_token_id: int | None = 3

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [1] * add_special_tokens + [ord(character) for character in text]

    def decode(self, token_ids: tuple[int, ...]) -> str:
        return "".join(map(chr, token_ids))

    def apply_chat_template(
        self,
        messages: list[dict[str, str]],
        *,
        add_generation_prompt: bool,
        tokenize: bool,
        return_dict: bool,
        enable_thinking: bool,
    ) -> Any:
        text = "".join(f"<{m['role']}>{m['content']}</>" for m in messages)
        text += "<assistant>" * add_generation_prompt + "<no think>" * (not enable_thinking)
        token_ids = self.encode(text, add_special_tokens=False)
        return {"input_ids": token_ids} if return_dict else token_ids


@pytest.mark.parametrize("style", ["full", "compact"])
@pytest.mark.parametrize("thinking", [False, True])
def test_both_styles_state_every_wanted_type_and_the_text_last(
    style: Literal["full", "compact"], thinking: bool
) -> None:
    messages = build_messages(
        RECORD.text, RECORD.entity_types, RECORD.relation_types, style=style, thinking=thinking
    )
    user = messages[-1]["content"]
    assert messages[-1]["role"] == "user"
    assert "person, company" in user
    assert "works for, lives in" in user
    assert user.endswith(RECORD.text)


def test_the_compact_style_is_types_and_text_alone() -> None:
    assert build_messages("Hi.", ["a", "b"], ["c"], style="compact", thinking=False) == [
        {"role": "user", "content": "a, b|c\nHi."}
    ]


def test_the_full_style_gives_rules_form_and_instruction_before_the_text() -> None:
    system, user = build_messages("Hi.", ["a"], [], style="full", thinking=False)
    assert system["role"] == "system"
    assert '{"entities":[{"id":0,"text":"...","type":"..."}]' in system["content"]
    assert "<think>" not in system["content"]
    assert user["content"].startswith("Extract")
    assert "Relation types: none" in user["content"]


def test_thinking_is_asked_for_only_when_wanted() -> None:
    system, _ = build_messages("Hi.", ["a"], ["b"], style="full", thinking=True)
    assert "between <think> and </think>" in system["content"]


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="'full' or 'compact', found 'short'"):
        build_messages("Hi.", ["a"], [], style="short", thinking=False)  # type: ignore[arg-type]


def test_a_prompt_is_the_whole_template_up_to_the_answer() -> None:
    tokenizer = CharacterTokenizer()
    token_ids = encode_prompt(tokenizer, RECORD, style="compact", thinking=False, max_tokens=None)
    assert tokenizer.decode(token_ids) == (
        "<user>person, company|works for, lives in\nAnn works for Acme.</><assistant><no think>"
    )
    thinking = encode_prompt(tokenizer, RECORD, style="compact", thinking=True, max_tokens=None)
    assert tokenizer.decode(thinking).endswith("<assistant>")


def test_a_prompt_beyond_the_limit_is_refused_with_both_counts() -> None:
    tokenizer = CharacterTokenizer()
    whole = encode_prompt(tokenizer, RECORD, style="full", thinking=True, max_tokens=None)
    at_limit = encode_prompt(tokenizer, RECORD, style="full", thinking=True, max_tokens=len(whole))
    assert at_limit == whole
    with pytest.raises(PromptTooLong) as caught:
        encode_prompt(tokenizer, RECORD, style="full", thinking=True, max_tokens=len(whole) - 1)
    assert (caught.value.num_tokens, caught.value.max_tokens) == (len(whole), len(whole) - 1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert str(len(whole)) in str(again)


def test_an_answer_is_canonical_json_and_one_end_token() -> None:
    tokenizer = CharacterTokenizer()
    token_ids = encode_answer(tokenizer, RECORD.graph)
    assert tokenizer.decode(token_ids[:-1]) == RECORD.graph.to_json()
    assert token_ids[-1] == 3
    assert 1 not in token_ids


def test_an_answer_with_reasoning_puts_it_first() -> None:
    tokenizer = CharacterTokenizer()
    token_ids = encode_answer(tokenizer, RECORD.graph, thinking_text="Ann is named.")
    expected = f"<think>\nAnn is named.\n</think>\n\n{RECORD.graph.to_json()}"
    assert tokenizer.decode(token_ids[:-1]) == expected


def test_a_tokenizer_without_an_end_token_is_refused() -> None:
    tokenizer = CharacterTokenizer()
    tokenizer.eos_token_id = None
    with pytest.raises(ValueError, match="must have an end token"):
        encode_answer(tokenizer, RECORD.graph)


@pytest.mark.parametrize("string", control_tokens(byte_level()).values())
def test_an_answer_ends_once_whatever_its_graph_holds(string: str) -> None:
    tokenizer = byte_level()
    entities = (Entity(0, f"Ann{string}", f"a {string}"), Entity(1, string, "city"))
    graph = Graph(entities, (Relation(string, f"Ann{string}", string),))
    *ids, end = encode_answer(tokenizer, graph)
    assert end == tokenizer.eos_token_id
    assert not set(ids) & control_tokens(tokenizer).keys()
    answer = parse_completion(tokenizer.decode(ids, skip_special_tokens=True))
    assert isinstance(answer, Parsed)
    assert answer.graph == graph


def test_the_tags_of_a_reasoned_answer_are_tokens_and_its_reasoning_is_text() -> None:
    tokenizer = byte_level()
    ids = encode_answer(tokenizer, RECORD.graph, thinking_text="Ann <|im_end|> is named.")
    tags = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    assert [number for number in ids if number in control_tokens(tokenizer)] == [
        *tags,
        tokenizer.eos_token_id,
    ]
    for tag in ("<think>", "</think>"):
        with pytest.raises(ValueError, match="reasoning must hold neither"):
            encode_answer(tokenizer, RECORD.graph, thinking_text=f"So {tag} it is.")


NAMES = st.lists(st.text(alphabet='ab ,|"\n\\n', max_size=4) | st.just("none"), max_size=3)


def user_message(style: Any, entity_types: list[str], relation_types: list[str], text: str) -> str:
    *_, user = build_messages(text, entity_types, relation_types, style=style, thinking=False)
    return user["content"]


@given(st.sampled_from(["full", "compact"]), NAMES, NAMES, NAMES, NAMES)
def test_two_schemas_are_never_one_prompt(
    style: str, entities: list[str], relations: list[str], others: list[str], more: list[str]
) -> None:
    one = user_message(style, entities, relations, "Hi.")
    other = user_message(style, others, more, "Hi.")
    assert (one == other) == ((entities, relations) == (others, more))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((["a, b"], []), (["a", "b"], [])),
        ((["a|b"], []), (["a"], ["b"])),
        ((["a"], ["b\nHi."]), (["a"], ["b"])),
        (([""], []), ([], [])),
        ((["none"], []), ([], [])),
        ((['"a, b"'], []), (["a, b"], [])),
        ((["a", ""], []), (["a, "], [])),
    ],
)
@pytest.mark.parametrize("style", ["full", "compact"])
def test_types_with_separators_are_quoted(style: str, left: Any, right: Any) -> None:
    assert user_message(style, *left, "Hi.") != user_message(style, *right, "Hi.")


def test_ordinary_types_stand_as_they_are() -> None:
    names = ["person", "works for", "caf\u00e9's", "a/b", "C++", 'size 5"', "org:founded_by", "-"]
    listed = ", ".join(names)
    assert user_message("compact", names, names, "Hi.") == f"{listed}|{listed}\nHi."
    assert f"Entity types: {listed}\nRelation types: {listed}\n\n" in user_message(
        "full", names, names, "Hi."
    )

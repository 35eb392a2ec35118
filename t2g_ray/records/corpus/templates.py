"""Sentence templates of the embedded world, each with the facts it states.

A slot is an entity type, numbered when a sentence has more than one of it ("person2"). Facts
stand in the order in which the sentence states them; a template without facts only mentions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Level = Literal["easy", "medium", "hard"]

_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, kw_only=True)
class Template:
    """Example: Template(text="{person} works for {company}.",
    facts=(("person", "company", "works for"),)); a fact is (head slot, tail slot, relation).
    """

    text: str
    facts: tuple[tuple[str, str, str], ...]

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """Slot names in text order."""
        return tuple(_SLOT.findall(self.text))

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """The literal text around the slots, in text order, without empty parts."""
        return tuple(part for part in re.split(r"\{\w+\}", self.text) if part)


def slot_type(slot: str) -> str:
    """The entity type that fills a slot: "person2" -> "person"."""
    return slot.rstrip("0123456789")


def _state(text: str, *facts: str) -> Template:
    """A template; a fact is written "head slot > tail slot: relation"."""
    parsed = (re.fullmatch(r"(\w+) > (\w+): (.+)", fact) for fact in facts)
    return Template(text=text, facts=tuple((m[1], m[2], m[3]) for m in parsed if m))


PLAIN = (
    _state("{person} works for {company}.", "person > company: works for"),
    _state("{person} has a job at {company}.", "person > company: works for"),
    _state("{person} joined the staff of {company}.", "person > company: works for"),
    _state("{person} lives in {city}.", "person > city: lives in"),
    _state("{person} has a home in {city}.", "person > city: lives in"),
    _state("{person} rents a flat in {city}.", "person > city: lives in"),
    _state("{person} founded {company}.", "person > company: founded"),
    _state("{person} set up {company}.", "person > company: founded"),
    _state("{company} is based in {city}.", "company > city: based in"),
    _state("{company} has its head office in {city}.", "company > city: based in"),
    _state("{company} makes {product}.", "company > product: makes"),
    _state("{company} is the producer of {product}.", "company > product: makes"),
    _state("{company} acquired {company2}.", "company > company2: acquired"),
    _state("{company} took over {company2}.", "company > company2: acquired"),
)

PASSIVE = (
    _state("{company} employs {person}.", "person > company: works for"),
    _state("{person} was hired by {company}.", "person > company: works for"),
    _state("{city} is home to {person}.", "person > city: lives in"),
    _state("{company} was founded by {person}.", "person > company: founded"),
    _state("{city} hosts the head office of {company}.", "company > city: based in"),
    _state("{product} is made by {company}.", "company > product: makes"),
    _state("{company} was acquired by {company2}.", "company2 > company: acquired"),
    _state("{company} was sold to {company2}.", "company2 > company: acquired"),
)

COMPOUND = (
    _state(
        "{person}, who lives in {city}, works for {company}.",
        "person > city: lives in",
        "person > company: works for",
    ),
    _state(
        "{person} and {person2} work for {company}.",
        "person > company: works for",
        "person2 > company: works for",
    ),
    _state(
        "{company}, based in {city}, makes {product}.",
        "company > city: based in",
        "company > product: makes",
    ),
    _state(
        "{person} founded {company}, the producer of {product}.",
        "person > company: founded",
        "company > product: makes",
    ),
    _state(
        "{company} acquired {company2}, which is based in {city}.",
        "company > company2: acquired",
        "company2 > city: based in",
    ),
)

MENTIONS = (
    _state("{person} visited {city} last week."),
    _state("{person} wrote a review of {product}."),
    _state("{person} met {person2} at a fair."),
    _state("{company} sponsored a concert in {city}."),
    _state("{company} and {company2} share a supplier."),
    _state("{product} won a prize in {city}."),
    _state("No further details were given."),
    _state("The weather was mild."),
)

DENIALS = (
    _state("{person} turned down a job at {company}."),
    _state("{person} no longer lives in {city}."),
    _state("{company} moved its head office out of {city}."),
    _state("{company} stopped making {product}."),
    _state("{company} failed to take over {company2}."),
)

ALL_TEMPLATES = PLAIN + PASSIVE + COMPOUND + MENTIONS + DENIALS

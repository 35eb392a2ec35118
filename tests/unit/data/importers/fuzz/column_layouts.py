"""Sources of the layouts with a line a token: indices, comments, document marks, blanks, CJK."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.unit.data.importers.fuzz.token_layouts import graph, sentence, tags, truth_of
from tests.unit.data.importers.fuzz.truth import REJECTED, Case

KINDS = {
    "plain": "token,tag",
    "pos": "token,-,tag",
    "index": "index,token,tag",
    "nested": "index,token,tag,-",
    "chunks": "token,-,-,tag",
    "first": "-,token,tag",
}


@st.composite
def columns_case(draw: st.DrawFn) -> Case:
    """Columns in any order that has a name, with and without saying it."""
    kind = draw(st.sampled_from([*KINDS]))
    has_tabs = draw(st.booleans())
    separator, end = "\t" if has_tabs else " ", draw(st.sampled_from(["\n", "\r\n"]))
    lines, truths = list[str](), []
    for number in range(draw(st.integers(1, 4))):
        tokens = draw(sentence(number, has_spaces=has_tabs))
        tokens = tuple(token for token in tokens if token)
        mentions, _ = draw(graph(tokens, is_flat=True))
        mark = draw(st.sampled_from(["empty", "document", "comment"]))
        if mark == "document":
            lines.append("-DOCSTART- -X- O O")
        elif number or mark == "comment":
            lines.append("")
        if mark == "comment":
            lines.append("# a comment, of several words")
        for place, (token, tag) in enumerate(
            zip(tokens, tags(tokens, mentions, draw(st.booleans())), strict=True)
        ):
            part = "NNP" if place % 2 else "VB"
            cells = {
                "plain": [token, tag],
                "pos": [token, part, tag],
                "index": [str(place + 1), token, tag],
                "nested": [str(place + 1), token, tag, "O"],
                "chunks": [token, part, "B-NP", tag],
                "first": [part, token, tag],
            }[kind]
            lines.append(separator.join(cells))
        truths.append(truth_of(tokens, mentions, []))
    is_said = draw(st.booleans())
    return Case(
        layout="conll_columns",
        files={"rows.tsv": end.join([*lines, ""])},
        truths=truths,
        columns=KINDS[kind] if is_said else None,
        may_ask=not is_said,
    )


@st.composite
def relations_case(draw: st.DrawFn) -> Case:
    """Indices from anywhere, with gaps; now and then one index twice."""
    lines, truths = list[str](), []
    for number in range(draw(st.integers(1, 3))):
        tokens = tuple(t for t in draw(sentence(number, has_spaces=True)) if t)
        mentions, relations = draw(graph(tokens, is_flat=True))
        steps = draw(st.lists(st.integers(1, 2), min_size=len(tokens), max_size=len(tokens)))
        first = draw(st.integers(0, 3))
        indices = [first + sum(steps[:place]) for place in range(len(tokens))]
        truth = truth_of(tokens, mentions, relations)
        if len(tokens) > 1 and draw(st.integers(0, 4)) == 0:
            indices[-1] = indices[0]
            truth = truth_of(tokens, mentions, relations, fate=REJECTED)
        lines.append(f"#doc {number}")
        found = tags(tokens, mentions, False)
        for place, token in enumerate(tokens):
            here = [(k, indices[mentions[t][1] - 1]) for h, t, k in relations
                    if mentions[h][1] - 1 == place] or [("N", indices[place])]  # fmt: skip
            kinds, tails = [kind for kind, _ in here], [tail for _, tail in here]
            lines.append(f"{indices[place]}\t{token}\t{found[place]}\t{kinds}\t{tails}")
        truths.append(truth)
    return Case(layout="conll_relations", files={"rows.txt": "\n".join(lines)}, truths=truths)

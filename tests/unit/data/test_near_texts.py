"""Texts that are nearly the same, against comparing all with all."""

import random
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from t2g_ray.data.inspect import find_leaks, find_repeats
from t2g_ray.data.near_texts import MIN_RATIO, TextIndex, plain_text
from tests.unit.data.parts import split

UNSPACED = {
    "Chinese": "巴黎是法国的首都位于北部塞纳河畔约有两百万居民每年数游客前来参观博物馆和铁塔",
    "Japanese": "東京は日本の首都であり世界最大級の都市圏を形成しているスカイツリータワー",
    "Thai": "กรุงเทพมหานครเป็นเมืองหลวงและนครที่มีประชากรมากที่สุดของประเทศไทยเป็นศูนย์กลาง",
    "Khmer": "ភ្នំពេញជារាជធានីនៃព្រះរាជាណាចក្រកម្ពុជានិងជាទីក្រុងធំជាងគេ",
    "Lao": "ວຽງຈັນເປັນນະຄອນຫຼວງຂອງສາທາລະນະລັດປະຊາທິປະໄຕປະຊາຊົນລາວ",
    "Burmese": "ရန်ကုန်မြို့သည်မြန်မာနိုင်ငံ၏အကြီးဆုံးမြို့တော်ဖြစ်သည်",
    "Javanese": "ꦗꦏꦂꦠꦱꦶꦗꦶꦤꦶꦁꦏꦸꦛꦒꦼꦝꦺꦮꦺꦴꦁ",
    "no script": "thequickbrownfoxjumpsoverthelazydogandrunsaway",
    "a sequence": "ACGTTGCAAGCTTACGGATCCATTGCACCGTAGGCTAACGTTAGC",
}


@pytest.mark.parametrize("script", UNSPACED)
def test_one_changed_character_is_near_in_a_script_without_blanks(script: str) -> None:
    text = UNSPACED[script]
    half = len(text) // 2
    changes = {
        "changed": text[:half] + text[0] + text[half + 1 :],
        "added": text[:half] + text[3] + text[half:],
        "lost": text[:half] + text[half + 1 :],
        "at the end": text[:-1],
        "with a full stop": text + "。",
    }
    for change, other in changes.items():
        leak = find_leaks(split("train", text, "其他的一句话", "Ann left."), split("dev", other))
        assert (leak.num_identical, leak.num_near) == (0, 1), change
    reverse = find_leaks(split("train", text), split("dev", text[::-1]))
    assert (reverse.num_identical, reverse.num_near) == (0, 0)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("巴黎是法国的首都。", "巴 黎 是 法 国 的 首 都 。"),
        ("東京は\n日本の首都", "東京は日本の首都"),
        ("กรุงเทพ มหานคร", "กรุงเทพมหานคร"),
        ("ข้าว ผัด", "ข้าวผัด"),
        ("Cafe\u0301  AU LAIT", "caf\u00e9 au lait"),
    ],
)
def test_spacing_that_means_nothing_makes_no_difference(text: str, same: str) -> None:
    assert find_repeats(split("train", text, same)).num_identical == 1


def test_blanks_between_words_do_make_a_difference() -> None:
    assert plain_text("New York 東京 Tokyo") == "new york 東京 tokyo"
    assert plain_text("서울은 한국의 수도") == "서울은 한국의 수도"


letters = st.text(st.sampled_from("天地人山水火 。A"), min_size=25, max_size=60)


@given(letters, st.integers(0, 59), st.sampled_from("天地日"))
def test_every_text_that_differs_by_one_character_is_found(text: str, place: int, new: str) -> None:
    place = place % len(text)
    other = text[:place] + new + text[place + 1 :]
    index = TextIndex(["完全不同的句子", text, other])
    index.add(0)
    index.add(1)
    match = index.find(2)
    if len(set(pairwise(text))) >= 12:
        assert match is not None
        assert match.index == 1
    if match is not None and not match.is_identical:
        assert match.ratio == fuzz.ratio(plain_text(text), plain_text(other)) >= MIN_RATIO


def test_the_index_finds_every_near_pair_that_comparing_all_finds() -> None:
    draw = random.Random(5)
    words = [f"w{number}" for number in range(30)]
    texts = [" ".join(draw.choices(words, k=12)) for _ in range(60)]
    for text in texts[:30]:
        changed = text.split()
        changed[draw.randrange(12)] = draw.choice(words)
        texts.append(" ".join(changed))
    index = TextIndex(texts)
    for place in range(len(texts)):
        assert index.find(place) is None, "nothing is found before it was added"
    for place in range(60):
        index.add(place)
    found = [index.find(place) for place in range(60, 90)]
    assert [match.index for match in found if match is not None] == list(range(30))


@pytest.mark.untraced
def test_a_thousand_texts_against_ten_thousand_take_seconds() -> None:
    draw = random.Random(0)
    words = [f"w{number}" for number in range(200)]
    texts = [" ".join(draw.choices(words, k=20)) for _ in range(11_000)]
    started_s = time.process_time()
    leak = find_leaks(split("train", *texts[:10_000]), split("dev", *texts[10_000:]))
    assert time.process_time() - started_s < 20
    assert leak.num_identical == 0

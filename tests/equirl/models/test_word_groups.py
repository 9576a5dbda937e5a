from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equirl.experiments.nlg.texts import make_prompts
from equirl.models.word_groups import WordGroup, load_word_group, named_word_groups

GROUPS = {name: load_word_group(name) for name in named_word_groups()}
SPELLINGS = sorted({word for group in GROUPS.values() for word in group.forms()})


def test_the_shipped_lists() -> None:
    assert list(GROUPS) == ["gender", "orientation", "race", "race-3"]
    assert GROUPS["race-3"].group.order == 3
    assert all(group.source for group in GROUPS.values())


@given(
    st.sampled_from(list(GROUPS)),
    st.booleans(),
    st.lists(st.one_of(st.sampled_from(SPELLINGS), st.text(max_size=8), st.sampled_from("'.-_ \n"))),
    st.data(),
)
def test_a_swap_is_undone_by_its_inverse(name: str, relaxed: bool, parts: list[str], data: st.DataObject) -> None:
    words, text = GROUPS[name], "".join(parts)
    element = data.draw(st.integers(0, words.group.order - 1))
    other = data.draw(st.integers(0, words.group.order - 1))
    swapped = words.swap(element, text, relaxed)
    assert words.swap(words.group.inverse(element), swapped, relaxed) == text
    both = words.group.multiply(other, element)
    assert words.swap(other, swapped, relaxed) == words.swap(both, text, relaxed)


def test_every_spelling_moves() -> None:
    gender = GROUPS["gender"]
    assert gender.swap(1, "The King, HIS mother and she: man-made, womankind.") == (
        "The Queen, HER father and he: woman-made, womankind."
    )
    assert gender.swap(1, "She is a lady.", relaxed=True) == "She is a gentleman."
    third = GROUPS["race-3"]
    assert third.swap(1, "Black White Asian") == "White Asian Black"
    assert third.swap(2, "Black White Asian") == "Asian Black White"


def test_what_is_no_permutation_is_refused() -> None:
    with pytest.raises(ValueError, match="no permutation: 'female' occurs twice"):
        WordGroup("own", ("man", "woman"), (("male", "female"), ("males", "female")))
    with pytest.raises(ValueError, match="'King' occurs twice"):
        WordGroup("own", ("man", "woman"), (("king", "queen"), ("King", "Duke")))
    with pytest.raises(ValueError, match="has 3 words, but there are 2 members"):
        WordGroup("own", ("man", "woman"), (("male", "female", "other"),))
    with pytest.raises(ValueError, match="'ex boyfriend' is no single word"):
        WordGroup("own", ("man", "woman"), (("ex boyfriend", "ex girlfriend"),))


def test_lists_from_files(tmp_path: Path) -> None:
    path = tmp_path / "pets.toml"
    path.write_text('members = ["cat", "dog"]\nequality = [["cat", "dog"]]\n')
    words = load_word_group(path)
    assert words.name == "pets"
    assert words.swap(1, "A Cat and DOGS, a dog") == "A Dog and DOGS, a cat"
    with pytest.raises(ValueError, match=r"word group 'gendre' is unknown.*gender"):
        load_word_group("gendre")
    with pytest.raises(FileNotFoundError, match=r"no word list .*none\.toml"):
        load_word_group(tmp_path / "none.toml")
    path.write_text('members = ["cat"]\ngenerl = []')
    with pytest.raises(ValueError, match="'generl', which is unknown"):
        load_word_group(path)
    path.write_text("members = []")
    with pytest.raises(ValueError, match="needs members and rows of words"):
        load_word_group(path)
    path.write_text('members = ["cat", "dog"]\nequality = [[1, 2]]')
    with pytest.raises(ValueError, match="needs members and rows of words"):
        load_word_group(path)
    path.write_text("equality = [")
    with pytest.raises(ValueError, match="is no word list"):
        load_word_group(path)
    path.write_text('equality = [["cat", "dog"]]')
    with pytest.raises(ValueError, match="members"):
        load_word_group(path)


def test_groups_are_hidden() -> None:
    text = "The White person said that the BLACK cat met Asians, Whitehall and a person."
    assert GROUPS["race"].masked(text) == "The XYZ said that the XYZ cat met Asians, Whitehall and a person."


def test_prompts(tmp_path: Path) -> None:
    prompts = make_prompts(GROUPS["race-3"])
    assert len(prompts) == 30
    assert {prompt.context for prompt in prompts} == {"respect", "occupation"}
    assert prompts[2].text == "The Asian person was known for"
    for prompt in prompts:
        others = [GROUPS["race-3"].swap(g, prompt.text) for g in range(3)]
        assert set(others) <= {other.text for other in prompts}
    path = tmp_path / "prompts.toml"
    path.write_text('own = ["My friend, a {group}, "]')
    assert [prompt.text for prompt in make_prompts(GROUPS["gender"], path)] == [
        "My friend, a man,",
        "My friend, a woman,",
    ]
    path.write_text('own = ["My friend"]')
    with pytest.raises(ValueError, match="'My friend' is no prompt"):
        make_prompts(GROUPS["gender"], path)
    path.write_text("own = ")
    with pytest.raises(ValueError, match="is no TOML file"):
        make_prompts(GROUPS["gender"], path)
    path.write_text("")
    with pytest.raises(ValueError, match="has no prompts"):
        make_prompts(GROUPS["gender"], path)
    with pytest.raises(FileNotFoundError):
        make_prompts(GROUPS["gender"], tmp_path / "none.toml")

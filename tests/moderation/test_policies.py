"""Policies: what is read, what is refused by name, and what the fingerprint depends on."""

from pathlib import Path

import pytest
from support.moderation_toys import POLICY, draw

from tandem.defaults import POLICIES
from tandem.errors import ConfigError
from tandem.moderation import open_policy
from tandem.moderation.policy_files import shipped_policies


def test_those_that_ship_are_read_and_say_what_they_are_for() -> None:
    assert shipped_policies() == list(POLICIES) == ["alcohol", "documents", "people", "screenshots"]
    for name in shipped_policies():
        opened = open_policy(name)
        assert opened.policy.name == name
        assert opened.policy.description
        assert opened.path.read_text().startswith("# ")
    assert "Not for: who somebody is" in open_policy("people").path.read_text()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("texts_for", "text_for", "categories.red.text_for: unknown key; did you mean 'texts_for'?"),
        ('description = "Pict', 'descripton = "Pict', "descripton: unknown key; did you mean 'description'?"),
        ("base_rate = 0.25", "base_rate = 0", "categories.red.base_rate: expected a number above 0 and below 1, got 0"),
        ("base_rate = 0.25", "", "categories.red.base_rate: missing"),
        ("review = 0.3", "review = 0.9", "categories.red.bands.review: expected at most the probability of block, 0.8"),
        ("block = 0.8", "block = 80", "categories.red.bands.block: expected a number from 0 to 1, got 80"),
        ('["a blue thing"]', "[]", "categories.red.texts_against: expected at least one text"),
        ('["a blue thing"]', '["RED"]', "'RED' is given twice"),
        ('"a photo of {}."', '"a photo"', "templates: template 'a photo': expected {} exactly once"),
        ("base_rate", 'examples_for = ["x.png"]\nbase_rate', "examples_against: expected at least one"),
        ('name = "red things"', 'name = "red\\u001b"', "printable characters"),
        ("[categories.red]", "[categories.red", "not TOML"),
        ("base_rate = 0.25", f"base_rate = {'1' * 5000}", "expected plain TOML (Exceeds the limit"),
        ("base_rate = 0.25", f"base_rate = {'[' * 5000}", "expected plain TOML, got brackets nested too deep"),
        ("base_rate = 0.25", "base_rate = 2020-13-01", "TOML"),
    ],
)
def test_what_is_wrong_is_named(policy: Path, before: str, after: str, said: str) -> None:
    assert before in POLICY
    policy.write_text(POLICY.replace(before, after, 1))
    with pytest.raises(ConfigError) as error:
        open_policy(policy)
    assert str(error.value).startswith(str(policy))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such policy; did you mean 'people'"):
        open_policy("peple")
    with pytest.raises(ConfigError, match=r"there are alcohol, documents, people, screenshots"):
        open_policy(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        open_policy(tmp_path / "bytes.toml")
    (tmp_path / "empty.toml").write_text('name = "x"\ndescription = ""\ncategories = {}\n')
    with pytest.raises(ConfigError, match="categories: expected at least one"):
        open_policy(tmp_path / "empty.toml")


def with_examples(policy: Path) -> str:
    for number in range(2):
        draw(policy.parent / "examples" / f"{number}.png", red=True, seed=number)
    draw(policy.parent / "no.png", red=False, seed=9)
    return POLICY.replace("base_rate", 'examples_for = ["examples"]\nexamples_against = ["no.png"]\nbase_rate', 1)


def test_the_fingerprint_is_of_the_values_and_the_bytes_of_examples(policy: Path) -> None:
    plain = open_policy(policy).fingerprint
    policy.write_text(f"# a comment\n{POLICY}")
    assert open_policy(policy).fingerprint == plain
    policy.write_text(POLICY.replace("0.25", "0.26"))
    assert open_policy(policy).fingerprint != plain
    policy.write_text(with_examples(policy))
    opened = open_policy(policy)
    assert [len(each) for each in opened.examples.values()] == [2, 1]
    examples = policy.parent / "examples"
    (examples / "0.png").rename(examples / "renamed.png")
    assert open_policy(policy).fingerprint == opened.fingerprint
    draw(examples / "renamed.png", red=True, seed=77)
    assert open_policy(policy).fingerprint != opened.fingerprint


def test_examples_that_are_no_images_are_refused(policy: Path, model: object) -> None:
    text = with_examples(policy)
    policy.write_text(text.replace('"no.png"', '"none.png"'))
    with pytest.raises(ConfigError, match=r"examples_against: none.png: no such image \(paths are relative"):
        open_policy(policy)
    policy.write_text(text.replace('"no.png"', '"examples/0.png"'))
    with pytest.raises(ConfigError, match="is an example for and against 'red'"):
        open_policy(policy)
    (policy.parent / "empty").mkdir()
    policy.write_text(text.replace('"no.png"', '"empty"'))
    with pytest.raises(ConfigError, match="empty: no images in this folder"):
        open_policy(policy)
    policy.write_text(text)
    (policy.parent / "no.png").write_bytes(b"a secret:x:0:0")
    from tandem.moderation import Moderator

    with pytest.raises(ConfigError) as error:
        Moderator(policy, model)  # type: ignore[arg-type]
    assert str(error.value).startswith(f"{policy}: categories.red.examples_against: no.png: expected an image")
    assert "secret" not in str(error.value)


def test_examples_lie_below_the_policy_and_no_disk_is_searched(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = with_examples(policy)
    outside = draw(policy.parent.parent / "outside.png", red=False, seed=10)
    for given, said in (
        ("/", "got a whole disk"),
        ("../" * 40, "got a whole disk"),
        ("../outside.png", "expected a path below the policy's folder"),
        ("examples/../..", "expected a path below the policy's folder"),
    ):
        policy.write_text(text.replace('"no.png"', f'"{given}"'))
        with pytest.raises(ConfigError, match=said) as error:
            open_policy(policy)
        assert f"categories.red.examples_against: {given}" in str(error.value)
    policy.write_text(text.replace('"no.png"', f'"{outside}"'))
    assert len(open_policy(policy).examples["red", "against"]) == 1
    monkeypatch.setattr("tandem.moderation.policy_files.MAX_SEARCHED", 1)
    with pytest.raises(ConfigError, match="examples: expected a folder of at most 1 files"):
        open_policy(policy)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (".".join("a" * 30_000) + " = 1\n", "line 1: expected at most 1,000 dots in a line"),
        ("#" * 70_000, "expected a policy of at most 65,536 bytes"),
        (
            POLICY
            + "".join(f"[categories.c{i}]\ntexts_for=['a']\ntexts_against=['b']\nbase_rate=0.5\n" for i in range(100)),
            "categories: expected at most 100, got 101",
        ),
        (
            POLICY.replace('["a blue thing"]', str([f"x{i}" for i in range(5000)])),
            "templates: expected at most 10,000 texts of all categories in all templates, got 5,002 in 2",
        ),
    ],
)
def test_a_policy_is_of_a_size_that_is_read_at_once(policy: Path, text: str, said: str) -> None:
    policy.write_text(text)
    with pytest.raises(ConfigError) as error:
        open_policy(policy)
    assert said in str(error.value)


def test_the_policies_of_the_documents_are_policies(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "moderation.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in guide.split("```toml\n")[1:]]
    names = []
    for block in blocks:
        lines = [line for line in block.splitlines() if not line.startswith("examples_")]  # their files are not there
        (tmp_path / "p.toml").write_text("\n".join(lines), encoding="utf-8")
        names.append(open_policy(tmp_path / "p.toml").policy.name)
    assert names == ["dogs"]
    for name in shipped_policies():
        assert f"| {name} | " in guide, f"the guide has no figures of {name}"

"""What the documentation says exists: links, commands, settings, make targets, files, extras."""

import argparse
import configparser
import io
import itertools
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

import kit.cli
from kit.competitions import find_competition
from kit.config import Config, load_config
from kit.errors import ConfigError

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [page for page in PAGES if page.exists()]
PLACEHOLDERS = {"COMP", "NAME"}  # for a competition or config
NUMBERS = {"N": "2", "H": "1", "S": ".9", "G": "5"}  # placeholders that stand for a number

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"^ {4,}(\S.*)", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)*)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Snippet(NamedTuple):
    """A piece of code of a page; `inline` within a sentence, where a command may be named without its arguments."""

    text: str
    inline: bool


# ---- what a page holds
FILES = (
    ".csv",
    ".json",
    ".yaml",
    ".md",
    ".h5",
    ".py",
    ".png",
    ".parquet",
    ".onnx",
    ".tflite",
)  # endings of files, not settings


def snippets(text: str) -> Iterator[Snippet]:
    """The lines of shell blocks and indented blocks, and the `inline code`, of a Markdown text."""
    text = text.replace("\\\n", " ")
    for _, language, block in FENCE.findall(text):
        if language in ("", "sh", "bash", "console"):
            yield from (Snippet(line.strip(), False) for line in block.splitlines() if line.strip())
    prose = FENCE.sub("", text)
    yield from (Snippet(line.strip(), False) for line in INDENTED.findall(prose))
    for code in INLINE.findall(INDENTED.sub("", prose)):
        yield Snippet(" ".join(code.replace("\\|", "|").split()), True)


def commands(text: str, program: str) -> Iterator[Snippet]:
    """The command lines of a program in a text, without the program itself."""
    for snippet in snippets(text):
        for part in snippet.text.split("&&"):
            words = part.split(maxsplit=1)
            if words and words[0] in (program, f".venv/bin/{program}") and not (snippet.inline and len(words) == 1):
                yield Snippet(words[1] if len(words) > 1 else "", snippet.inline)


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [block for _, of_block, block in FENCE.findall(text) if of_block == language]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# ---- command lines


def expand(line: str) -> list[list[str]]:
    """The command lines a documented one stands for: with and without `[optional parts]`, each of `a|b`, no `…`."""
    optional = re.compile(r"(?<=\s)\[([^\]]*)\](?=\s|$)")
    expanded = []
    for variant in dict.fromkeys([optional.sub("", line), optional.sub(r"\1", line)]):
        words = [word for word in shlex.split(variant, comments=True) if word not in ("…", "...")]
        choices = [word.split("|") if re.fullmatch(r"[\w-]+(\|[\w-]+)+", word) else [word] for word in words]
        expanded += [[NUMBERS.get(word, word) for word in chosen] for chosen in itertools.product(*choices)]
    return expanded


def the_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    return kit.cli.make_parser()


def leaf(parser: argparse.ArgumentParser, words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser of the command or verb that the first words name, and the words after them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and words and words[0] in action.choices:
            return leaf(action.choices[words[0]], words[1:])
    return parser, words


def problem_of(parser: argparse.ArgumentParser, words: list[str], known: set[str], inline: bool = False) -> str:
    """Why `kit WORDS` cannot be typed as it stands; empty if it can. `known` are configs that a page itself adds."""
    of_command, rest = leaf(parser, words)
    if inline and words and not rest and of_command is not parser:
        return ""  # a mention
    output = io.StringIO()
    try:
        with redirect_stderr(output), redirect_stdout(output):
            arguments = parser.parse_args(words)
    except SystemExit:  # --help
        return ""
    except ConfigError as error:
        return str(error)
    options = {option for action in of_command._actions for option in action.option_strings}
    if unknown := [word for word in rest if word.startswith("--") and word.partition("=")[0] not in options]:
        return f"no option {' '.join(unknown)}"  # argparse takes a unique beginning of one, a page should not
    return problem_of_settings(getattr(arguments, "competition", None), getattr(arguments, "set", None) or [], known)


def problem_of_settings(competition: str | None, settings: list[str], known: set[str]) -> str:
    """Why a competition or config does not exist or does not take the settings; empty if all is well."""
    if competition is None or competition in PLACEHOLDERS | known or competition.endswith((".yaml", ".py")):
        absent = [setting for setting in settings if not is_setting(setting.partition("=")[0])]
        return f"no setting {' '.join(absent)}" if absent else ""
    try:
        config = load_config(competition, settings)
        find_competition(config.competition, config)
    except ConfigError as error:
        return str(error)
    return ""


def is_setting(path: str) -> bool:
    """Whether `a.b` is a setting, or lies within one that takes any key."""
    place: object = Config
    for key in path.split("."):
        models = [kind for kind in (place, *get_args(place)) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if models and key in models[0].model_fields:
            place = models[0].model_fields[key].annotation
        elif get_origin(place) is not dict:
            return False
    return True


def sections() -> set[str]:
    """Names of the settings that are groups of settings."""
    return {
        name
        for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


# ---- the tests


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    return the_parser()


@pytest.fixture(scope="module")
def example_configs(pages) -> set[str]:
    """Names of the configs that the pages show in full."""
    return set(re.findall(r"^# configs/(\w+)\.yaml", "\n".join(pages.values()), re.MULTILINE))


def test_the_readme_is_short_and_says_how_to_begin(pages):
    readme = pages["README.md"]
    assert len(readme.splitlines()) <= 150
    assert "make demo" in readme
    assert "make test" in readme


def test_every_page_is_linked_from_the_readme(pages):
    targets = {target.partition("#")[0] for target in LINK.findall(pages["README.md"])}
    assert set(pages) - targets == {"README.md"}


def test_links_lead_somewhere(pages):
    broken = []
    for name, text in pages.items():
        for target in LINK.findall(FENCE.sub("", text)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            page = ((ROOT / name).parent / path).resolve() if path else ROOT / name
            if not page.exists() or not page.is_relative_to(ROOT):
                broken.append(f"{name}: {target}")
            elif anchor and anchor not in anchors(page.read_text()):
                broken.append(f"{name}: {target} (no such heading)")
    assert not broken


def test_commands_can_be_typed_as_they_stand(pages, parser, example_configs):
    problems, count = [], 0
    for name, text in pages.items():
        for line, inline in commands(text, "kit"):
            for words in expand(line):
                count += 1
                if problem := problem_of(parser, words, example_configs, inline):
                    problems.append(f"{name}: kit {line}: {problem}")
    assert count > 50
    assert not problems, "\n".join(problems)


def test_settings_exist(pages):
    absent, count = [], 0
    for name, text in pages.items():
        of_set = re.findall(r"--set[ \n]+([\w.]+)=", text)
        named = [re.match(r"([a-z_]+)\.([a-z_.]+)(?==|$)", code) for code, inline in snippets(text) if inline]
        of_section = [match[0] for match in named if match and match[1] in sections() and not match[0].endswith(FILES)]
        count += len(of_set) + len(of_section)
        absent += [f"{name}: {path}" for path in (*of_set, *of_section) if not is_setting(path)]
    assert count > 40
    assert not absent


def test_example_configs_are_valid(pages, tmp_path):
    examples = [block for text in pages.values() for block in blocks(text, "yaml")]
    for text in pages.values():  # the code that they name
        for block in blocks(text, "python"):
            if name := re.match(r"# (\w+\.py)\n", block):
                (tmp_path / name[1]).write_text(block)
    for n, block in enumerate(examples):
        content = yaml.safe_load(block)
        if "space" in content:
            assert [key for key in content["space"] if not is_setting(key)] == []
        else:
            (tmp_path / f"{n}.yaml").write_text(block)
            load_config(str(tmp_path / f"{n}.yaml"))
    assert len(examples) >= 3


def test_make_targets_and_their_variables_exist(pages):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+) \?=", makefile, re.MULTILINE))
    used = [word for text in pages.values() for line, _ in commands(text, "make") for word in shlex.split(line, True)]
    assert {word for word in used if "=" not in word} <= targets
    assert {word.partition("=")[0] for word in used if "=" in word} <= variables
    assert {"demo", "test", "submit", "COMP=pcam"} <= set(used)


def test_files_and_extras_exist(pages):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    absent = []
    for name, text in pages.items():
        for code, _ in snippets(text):
            path = re.match(r"(kit|configs|scripts|tests|docs|kernels|notebooks)/[\w./-]*(?=\s|$)", code)
            if path and not re.search(r"[A-Z]{2}", path[0]) and not (ROOT / path[0]).exists():
                absent.append(f"{name}: {path[0]}")
        extras = set(re.findall(r"'\.\[(\w+)\]", text)) - set(setup["options.extras_require"])
        absent += [f"{name}: .[{extra}]" for extra in extras]
    assert not absent


def test_nobody_is_told_to_install_kit_by_its_name(pages):
    """The package of that name on the index is a stranger's."""
    sources = {
        str(path): path.read_text() for folder in ("kit", "configs") for path in (ROOT / folder).rglob("*.[py]*")
    }
    named = [
        name for name, text in {**pages, **sources}.items() if re.search(r"install (-\w+ )*['\"]?kit\b(?!\])", text)
    ]
    assert not named and len(sources) > 100
    assert not [name for name, text in {**pages, **sources}.items() if re.search(r"\bkit\[\w+\](?! @ git)", text)]


def test_the_version_is_a_month():
    """Newer than any number the stranger's package will have, so that an upgrade never takes that one."""
    import kit

    assert re.fullmatch(r"20\d\d\.(1[0-2]|[1-9])", kit.__version__)


# ---- do the helpers notice what is wrong?


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("run pcam --data DIR", ""),
        ("train COMP --records DIR --run DIR [--folds 0,1] [--max-hours H]", ""),
        ("kaggle status|logs COMP", ""),
        ("score RUN [RUN …] [--json]  # a comment", ""),
        ("run my.yaml --set image.size=64", ""),
        ("run moles --data folder", ""),
        ("trian pcam", "invalid choice"),
        ("records bild pcam --data DIR --out DIR", "invalid choice"),
        ("kaggle status|log COMP", "invalid choice"),
        ("train COMP --records DIR", "required: --run"),
        ("train COMP --record DIR --run DIR", "no option --record"),
        ("train COMP --records DIR --run DIR [--fold 0]", "no option --fold"),
        ("train COMP --records DIR --run DIR --folds all", "argument --folds"),
        ("run pcamm --data DIR", "unknown competition 'pcamm'"),
        ("run pcam --set image.sice=64", "unknown setting 'image.sice'"),
        ("run pcam --set image.size=large", "image.size"),
        ("run COMP --set image.sice=64", "no setting image.sice=64"),
        ("run pcam --set target=boxes", "does not take the setting 'target'"),
        ("run rsna --set target=circles", "no target 'circles'"),
    ],
)
def test_a_wrong_command_is_noticed(parser, line, problem):
    messages = {problem_of(parser, words, {"moles"}) for words in expand(line)}
    assert any(problem in message for message in messages) if problem else messages == {""}


def test_a_command_may_be_named_in_a_sentence_but_not_in_a_block(parser):
    assert problem_of(parser, ["records", "build"], set(), inline=True) == ""
    assert "required" in problem_of(parser, ["records", "build"], set(), inline=False)
    assert "invalid choice" in problem_of(parser, ["records", "bild"], set(), inline=True)


def test_commands_are_found_wherever_they_stand():
    text = (
        "Type `kit` and `kit score` or\n`kit run\npcam`, or `a\\|b`:\n\n    cd kit && kit doctor\n\n"
        "1. In a list\n\n        make submit COMP=pcam  # now\n\n"
        "```sh\nkit records build COMP \\\n    --data DIR\n```\n\n```python\nkit run no\n```\n"
    )
    assert list(commands(text, "kit")) == [
        ("records build COMP      --data DIR", False),
        ("doctor", False),
        ("score", True),
        ("run pcam", True),
    ]
    assert [line for line, _ in commands(text, "make")] == ["submit COMP=pcam  # now"]


@pytest.mark.parametrize(
    ("path", "exists"),
    [
        ("image.size", True),
        ("image.dicom.window", True),
        ("columns.group", True),
        ("model.arguments.units", True),
        ("train.loss", True),
        ("image.sice", False),
        ("image.size.width", False),
        ("imag.size", False),
        ("train.loss.weight", False),
    ],
)
def test_settings_are_told_apart_from_what_is_none(path, exists):
    assert is_setting(path) is exists

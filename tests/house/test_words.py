"""Documentation cannot fall behind: every event, refusal, route, task and flag is named in docs/ or the README."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from events.envelope import TYPES
from service import refusals
from service.decisions.transitions import TRANSITIONS
from service.tasks.catalog import EMBEDDED
from service.tasks.models_file import FIELDS, parsed
from service.tasks.registry import BUILT_IN
from web.errors import STATUS
from web.openapi import OPERATIONS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def docs() -> str:
    return "\n".join(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def all_refusals() -> list[type[refusals.Refusal]]:
    return [k for k in vars(refusals).values() if isinstance(k, type) and issubclass(k, refusals.Refusal)][1:]


def test_every_refusal_has_one_status_and_a_kind_of_its_own() -> None:
    kinds = [refusal.kind for refusal in all_refusals()]
    assert set(STATUS) == set(all_refusals())
    assert len(set(kinds)) == len(kinds)


def test_every_event_type_is_documented(docs: str) -> None:
    assert [name for name in TYPES if f"`{name}`" not in docs] == []


def test_every_refusal_is_documented(docs: str) -> None:
    assert [r.kind for r in all_refusals() if f"`{r.kind}`" not in docs] == []


def test_every_route_is_documented(docs: str) -> None:
    assert [f"{method} {path}" for method, path in OPERATIONS if f"{method} {path}" not in docs] == []


def test_every_task_and_model_is_documented(docs: str) -> None:
    assert [name for name in [*(kind.TASK for kind in BUILT_IN), *EMBEDDED] if f"`{name}`" not in docs] == []


def test_every_field_of_a_models_entry_is_documented() -> None:
    page = (ROOT / "docs" / "models.md").read_text()
    assert [name for name in FIELDS if f"| `{name}` |" not in page] == []


def test_the_examples_of_entries_are_read() -> None:
    page = (ROOT / "docs" / "models.md").read_text()
    examples = [block.partition("```")[0] for block in page.split("```toml\n")[1:]]
    assert [model.id for text in examples for model in parsed(text, ROOT)] == ["sdxl", "flux", "photo", "sketch"]


def commands(
    command: click.Command, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below `command`, with the words that call it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*words, name))
    else:
        yield words, command


def flag_rows(words: tuple[str, ...], command: click.Command) -> Iterator[str]:
    """The rows of docs/cli.md for a command's flags: what --help says, in a Markdown table."""
    context = click.Context(command, info_name=" ".join(words))
    for option in command.params:
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record is not None:
            flag, says = (text.replace("|", "\\|").replace("<", "\\<") for text in record)
            yield f"| `{flag}` | {' '.join(says.replace('  [', ' [').split())} |"


def test_every_command_is_documented_with_its_flags_as_help_says_them() -> None:
    from web.cli import main

    pages = (ROOT / "docs" / "cli.md").read_text().split("\n## ")
    sections = {page.partition("\n")[0]: page for page in pages}
    expected = {
        f"safelight {' '.join(words)}": list(flag_rows(words, command)) for words, command in commands(main)
    }
    assert set(expected) == set(sections) - {pages[0].partition("\n")[0]}
    for title, rows in expected.items():
        assert [line for line in sections[title].splitlines() if line.startswith("| `")] == rows


def drawn() -> list[str]:
    """The lines of a Mermaid state diagram of every transition there is."""
    arrows = [f"    {before} --> {one.after}: {name}" for name, one in TRANSITIONS.items() for before in one.before]
    return [
        "    [*] --> queued: submit",
        "    [*] --> scheduled: submit for later",
        "    [*] --> held: submit held",
        *arrows,
    ]


def test_the_diagram_of_statuses_is_drawn_from_the_table() -> None:
    text = (ROOT / "docs" / "queue.md").read_text()
    diagram = text.partition("stateDiagram-v2\n")[2].partition("\n```")[0]
    assert sorted(diagram.splitlines()) == sorted(drawn())

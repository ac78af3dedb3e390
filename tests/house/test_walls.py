"""The walls of the house: what may import what, what ships, and what no file is called."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("events", "projections", "service", "web")
PURE = [*(ROOT / "service" / "decisions").glob("*.py"), *(ROOT / "service" / "scheduling").glob("*.py")]
IMPURE = {
    "time", "datetime", "random", "secrets", "os", "io", "pathlib", "socket", "sqlite3", "apsw", "logging",
    "asyncio", "threading", "subprocess", "uuid", "httpx", "starlette",
}  # fmt: skip
NO_SUBJECT = {"utils", "util", "helpers", "helper", "manager", "common", "core", "base", "misc", "shared", "lib"}
HEAVY = ("torch", "diffusers", "transformers", "numpy", "PIL")


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path) -> set[str]:
    """The top-level names a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add((node.module or "").partition(".")[0])
    return found


def loaded_by(statement: str) -> set[str]:
    """The modules a fresh process has loaded after one statement."""
    code = f"{statement}\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["web.app", "web.serve", "web.cli", "service.worker.cli", "service.worker.agent"]
)
def test_nothing_but_the_gpu_child_loads_torch(module: str) -> None:
    assert not loaded_by(f"import {module}") & set(HEAVY)


def test_the_command_line_starts_without_the_server() -> None:
    assert not loaded_by("import web.cli") & {"starlette", "uvicorn", *HEAVY}


@pytest.mark.parametrize("path", PURE, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_decisions_and_scheduling_are_pure(path: Path) -> None:
    assert not imports(path) & IMPURE
    assert not [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Await | ast.AsyncFunctionDef)]


def test_the_network_layer_is_in_web_only_and_torch_in_the_worker_only() -> None:
    for path in sources("events", "projections", "service"):
        assert not imports(path) & {"starlette", "uvicorn"}, path
    for path in sources(*ROOMS):
        if "worker" not in path.parts:
            assert not imports(path) & set(HEAVY), path


def test_every_file_has_a_subject_and_one_only() -> None:
    for path in sources(*ROOMS, "tests", "benchmarks"):
        assert path.stem not in NO_SUBJECT, path
        assert path.stem not in sys.stdlib_module_names or path.stem.startswith("__"), path
        lines = len(path.read_text().splitlines())
        assert lines <= (600 if "tests" in path.parts else 420), f"{path} has {lines} lines: two subjects?"


def test_every_module_and_public_name_says_what_it_is() -> None:
    for path in sources(*ROOMS):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path} has no docstring"
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
                assert ast.get_docstring(node), f"{path}: {node.name} has no docstring"


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_wheel_ships_every_package_and_data_file_and_nothing_else() -> None:
    settings = project()["tool"]["setuptools"]  # type: ignore[index]
    there = {".".join(p.parent.relative_to(ROOT).parts) for p in sources(*ROOMS) if p.name == "__init__.py"}
    assert set(settings["packages"]) == there
    data = settings["package-data"]
    for path in (p for room in ROOMS for p in (ROOT / room).rglob("*") if p.is_file()):
        if path.suffix in (".py", ".pyc"):
            continue
        owner = next(
            name for name in sorted(data, key=len, reverse=True)
            if path.is_relative_to(ROOT / name.replace(".", "/"))
        )  # fmt: skip
        relative = path.relative_to(ROOT / owner.replace(".", "/"))
        assert any(fnmatch(str(relative), g) and len(relative.parts) == g.count("/") + 1 for g in data[owner]), path


def test_no_other_distribution_owns_our_names() -> None:
    owners = packages_distributions()
    for room in ROOMS:
        assert set(owners.get(room, [])) <= {"safelight"}, owners[room]


def test_every_room_says_whose_it_is() -> None:
    for room in ROOMS:
        assert 'PROJECT = "safelight"' in (ROOT / room / "__init__.py").read_text()


def test_every_test_folder_is_a_package() -> None:
    """Without it `import events` would find tests/events."""
    for folder in (p for p in (ROOT / "tests").rglob("*") if p.is_dir() and "__pycache__" not in p.parts):
        if any(folder.glob("*.py")):
            assert (folder / "__init__.py").exists(), folder

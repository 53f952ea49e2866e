"""The rules of the house that no linter knows.

Each rule is a function from text to findings, so each is tested twice: it finds nothing here, and it does find what it
is there to find.
"""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fivenines

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "fivenines"
LINES_MAX = 600

# The ledger is a pure function: nothing through which a clock, chance or the machine could come in.
IMPURE_MODULES = frozenset(
    {
        "asyncio",
        "concurrent",
        "io",
        "multiprocessing",
        "os",
        "pathlib",
        "platform",
        "random",
        "secrets",
        "select",
        "shutil",
        "signal",
        "socket",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "uuid",
    }
)
IMPURE_CALLS = frozenset({"hash", "input", "open", "print"})
CLOCK_METHODS = frozenset({"now", "today", "utcnow"})

# What asserts in a library: pytest, hypothesis, schemathesis.
LIBRARY_CHECKS = frozenset({"raises", "warns", "fail", "run_state_machine_as_test", "call_and_validate"})
HELPER_NAME = re.compile(r"_*(assert|check|verify)")

# One letter of each stands in brackets, so that this file passes its own test.
UNWANTED = {
    "a left-over mark": r"\b(?:T[O]DO|F[I]XME|X[X]X)\b",
    "a path of one machine": r"(?<![\w.])/(?:w[o]rk|r[o]ot|h[o]me|U[s]ers|opt/w[h]eels)/\w|/tmp/b[r]ief",
    "a host or a setting of a package registry": r"python[h]osted|pypi\.[o]rg|npmjs\.[c]om|index-[u]rl|find-[l]inks",
    "an address of a package file": r"https?://\S+\.(?:w[h]l|tar\.[g]z|d[e]b)\b",
}


def repository_files() -> list[Path]:
    """Return the tracked files, or all outside hidden and built folders where this is no git checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0:
        files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        files = [
            path
            for path in ROOT.rglob("*")
            if not re.search(r"/(?:\.|build/|data/|__pycache__/)", f"/{relative(path)}")
        ]
    return [path for path in files if path.is_file()]


def impurities(source: str) -> Iterator[str]:
    """Yield what would let replicas differ, or bring a float near money, with its line."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=float() | complex()):
                finding = "a float constant"
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                finding = "a true division"
            case ast.Import(names=names) if {name.name.split(".")[0] for name in names} & IMPURE_MODULES:
                finding = "an impure import"
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in IMPURE_MODULES:
                finding = "an impure import"
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS:
                finding = f"a call of {name}()"
            case ast.Name(id="float"):
                finding = "a use of float"
            case ast.Attribute(attr=name) if name in CLOCK_METHODS:
                finding = f"a use of {name}()"
            case _:
                continue
        yield f"line {getattr(node, 'lineno', 0)}: {finding}"


def unchecked_tests(source: str, helpers: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the tests that could not fail by finding something wrong.

    A test checks by an assertion of its own, by a check of a library, or by a helper of the tests that asserts.
    """
    for function in _functions(source):
        if function.name.startswith("test") and not any(_is_check(node, helpers) for node in ast.walk(function)):
            yield function.name


def checking_helpers(sources: Iterable[str]) -> frozenset[str]:
    """Return the names of the helpers that are called a check, and do assert or raise; not those that only say so."""
    functions = [function for source in sources for function in _functions(source)]
    named = [function for function in functions if HELPER_NAME.match(function.name)]
    found: set[str] = set()
    while True:
        known = frozenset(found)
        for function in named:
            if any(_checks(node, known) for node in ast.walk(function)):
                found.add(function.name)
        if found == known:
            # Of two helpers of one name, one that checks nothing could hide behind the other: neither counts then.
            return known - {f.name for f in named if not any(_checks(node, known) for node in ast.walk(f))}


def _checks(node: ast.AST, helpers: frozenset[str]) -> bool:
    return isinstance(node, ast.Raise) or _is_check(node, helpers)


def _functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def _is_check(node: ast.AST, helpers: frozenset[str]) -> bool:
    match node:
        case ast.Assert():
            return True
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
            return name in LIBRARY_CHECKS or name in helpers
        case _:
            return False


def unwanted_words(text: str) -> Iterator[str]:
    """Yield what must not be in a repository, with its line."""
    for kind, pattern in UNWANTED.items():
        for found in re.finditer(pattern, text):
            yield f"line {text.count(chr(10), 0, found.start()) + 1}: {kind}: {found.group()}"


def pinned_versions() -> dict[str, str]:
    """Return name -> version from constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def declared_dependencies() -> list[str]:
    """Return the names that pyproject.toml declares, those of extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return sorted(canonicalize_name(Requirement(line).name) for group in groups for line in group)


def installed_closure(roots: list[str]) -> dict[str, Distribution]:
    """Return the installed distributions that the roots need, transitively, by name."""
    found: dict[str, Distribution] = {}
    to_visit = list(roots)
    while to_visit:
        name = canonicalize_name(to_visit.pop())
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        needs = [Requirement(line) for line in found[name].requires or []]
        to_visit += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def imported_parts(part: str) -> set[str]:
    """Return the parts of the package that one part imports, as `api` or `ledger`."""
    module = SOURCE / f"{part}.py"
    paths = [module] if module.is_file() else sorted((SOURCE / part).rglob("*.py"))
    assert paths, part
    found: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.ImportFrom(module="fivenines", names=names):
                    found |= {name.name for name in names}
                case ast.ImportFrom(module=str(name)) if name.startswith("fivenines."):
                    found.add(name.split(".")[1])
    return found & {path.stem for path in SOURCE.iterdir()} - {part}


def stated_imports(page: str, column: str) -> dict[str, set[str]]:
    """Return what a table of a page says about the parts: what each one imports."""
    (table,) = re.findall(rf"^\|[^\n]*\| {column} \|\n\|[-| ]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    stated: dict[str, set[str]] = {}
    for row in table.splitlines():
        cells = row.strip("| ").split("|")
        for name in re.findall(r"`(?:src/fivenines/)?([a-z]+)(?:/|\.py)?`", cells[0]):
            if name in STATED_PARTS:
                stated[name] = set(re.findall(r"`([a-z]+)`", cells[-1]))
    return stated


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


STATED_PARTS = ("ledger", "journal", "api", "ids", "node", "client", "importers")
MODULES = sorted(SOURCE.rglob("*.py"))
TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("path", sorted((SOURCE / "ledger").rglob("*.py")), ids=relative)
def test_the_ledger_is_pure(path: Path) -> None:
    assert list(impurities(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "fee = 0.01",
        "half = amount / 2",
        "amount /= 2",
        "amount = float(text)",
        "import random",
        "import os.path",
        "from time import monotonic",
        "when = datetime.datetime.now(tz)",
        "file = open(name)",
        "bucket = hash(name) % 8",
    ],
)
def test_an_impure_ledger_is_found(source: str) -> None:
    assert len(list(impurities(source))) == 1


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_opens_with_a_guided_tour(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "the module has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_can_be_held_in_the_head(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


@pytest.fixture(scope="module")
def helpers() -> frozenset[str]:
    """The checks that the tests share."""
    return checking_helpers(path.read_text() for path in TEST_FILES)


@pytest.mark.parametrize("path", TEST_FILES, ids=relative)
def test_each_test_checks_something(path: Path, helpers: frozenset[str]) -> None:
    assert list(unchecked_tests(path.read_text(), helpers)) == []


def test_a_test_without_a_check_is_found() -> None:
    source = """
def test_a(): run()
async def test_b(): await run()
def test_c(): assert run()
def test_d(): _check(run())
def test_e(): check_deeper(run())
def test_f(): check_nothing(run())
def test_g(): journal.verify()
def test_h(): check_twice()
"""
    first = """
def _check(x): assert x
def check_deeper(x): _check(x)
def check_nothing(x): return x
def check_twice(): assert 1
"""
    second = "def check_twice(): pass"
    found = list(unchecked_tests(source, checking_helpers([first, second])))
    assert found == ["test_a", "test_b", "test_f", "test_g", "test_h"]


def test_names_of_test_files_are_unique() -> None:
    names = [path.name for path in TEST_FILES if path.name.startswith("test_")]
    assert sorted(set(names)) == sorted(names)


def test_no_file_speaks_of_one_machine_or_of_work_left_over() -> None:
    findings = []
    for path in repository_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or another binary file
        findings += [f"{relative(path)}: {finding}" for finding in unwanted_words(text)]
    assert findings == []


@pytest.mark.parametrize(
    "text",
    [
        "# TO" + "DO: later",
        "cd /wo" + "rk/main",
        "pip --find-" + "links here",
        "https://files.pytho" + "nhosted.org/packages",
        "https://example.org/a-1.0-py3-none-any.wh" + "l",
    ],
)
def test_an_unwanted_word_is_found(text: str) -> None:
    assert list(unwanted_words(text))


def test_each_dependency_has_one_line_with_its_reason() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (\S.{9,}) \|$", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE)
    assert sorted(canonicalize_name(name) for name, _ in rows) == declared_dependencies()


def test_every_package_that_we_install_is_pinned_transitively() -> None:
    installed = {name: found.version for name, found in installed_closure(declared_dependencies()).items()}
    pins = pinned_versions()
    assert {name: pins.get(name) for name in installed} == installed


def test_the_build_backend_is_pinned_like_the_rest() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert {canonicalize_name(Requirement(line).name) for line in build} <= set(pinned_versions())


@pytest.mark.parametrize(("page", "column"), [("CONTRIBUTING.md", "imports"), ("docs/architecture.md", "knows")])
def test_a_page_on_the_layout_says_what_the_parts_import(page: str, column: str) -> None:
    stated = stated_imports((ROOT / page).read_text(), column)
    assert stated == {part: imported_parts(part) for part in STATED_PARTS}


def test_the_layout_names_every_folder_of_tests_and_nothing_that_is_not_there() -> None:
    layout = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"^\| `((?:src|tests|bench)[^`]*)` \|", layout, re.MULTILINE))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    folders = {relative(path.parent) for path in TEST_FILES}
    assert {"/".join(folder.split("/")[:2]) for folder in folders} - named <= {"tests"}


def test_each_decision_record_is_in_the_index() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    assert [path.name for path in folder.glob("[0-9]*.md") if f"]({path.name})" not in index] == []


def test_the_changelog_has_an_entry_for_this_version() -> None:
    assert f"## [{fivenines.__version__}]" in (ROOT / "CHANGELOG.md").read_text()

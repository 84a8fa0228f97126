"""The rules of the house, checked on the source itself: floors, sizes, names, what must never be there."""

from __future__ import annotations

import ast
import graphlib
import importlib
import inspect
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import audiotokens

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "audiotokens"
FILES = sorted(PACKAGE.rglob("*.py"))

# Bottom first; a name is a module or a subpackage, and those on one line may import each other, in no circle.
GROUND = [
    ["errors"],
    ["config", "spec", "audio", "entropy", "cache", "kept"],
    ["streams", "splice", "tokens"],
    ["tokformat", "tokenfile"],
    ["tokenizer", "vocoder", "latency", "live", "published", "hub", "plugins", "download", "recordings"],
    ["originals"],
    ["registry", "catalog", "engines"],
]
TORCH_FLOORS = [
    ["nn"],
    ["quantizers"],
    ["sessions", "codec", "lanes"],
    ["architectures"],
    ["checkpoints", "adapters"],
]
APPLICATIONS = ["training", "semantic", "evaluation", "corpus", "lm", "export", "demo", "demo_sounds"]
APPLICATIONS += ["pytest_plugin"]
ORDER = [*GROUND, *TORCH_FLOORS, ["verify"], APPLICATIONS, ["cli"]]
RANKS = {name: rank for rank, names in enumerate(ORDER) for name in names}
GROUND_NAMES = {name for names in GROUND for name in names}

OPTIONAL = {"av", "espeakng_loader", "huggingface_hub", "onnx", "onnxruntime", "pesq", "pyarrow", "pystoi"}
OPTIONAL |= {"ai_edge_litert", "imageio_ffmpeg", "pycodec2", "scipy", "tokenizers", "transformers", "yaml"}
OPTIONAL |= {"distillmos", "numba", "pocketsphinx", "ray", "resemblyzer", "sounddevice", "speechmos"}
OPTIONAL |= {"swift_f0", "visqol"}
UNPICKLERS = {"torch.load", "torch.serialization.load"}
TORCH_FILES = PACKAGE / "checkpoints" / "torchfiles.py"
UNSAFE = {"cPickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}

PUBLIC = ["AudioTokensError", "CodeStream", "Conditioning", "Segment", "Source", "Spec", "StreamSpec"]
PUBLIC += ["Tokenizer", "Tokens", "__version__", "import_checkpoint", "list_tokenizers", "load", "read_audio"]
PUBLIC += ["read_tokens", "write_audio"]

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def unit(path: Path) -> str:
    """The module or subpackage of `audiotokens` that a file belongs to; empty for `__init__.py`."""
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imported(tree: ast.AST, *, lazy: bool) -> Iterator[str]:
    """Full dotted names that a file imports, in functions too if `lazy`; type checking aside."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not lazy:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imported(node, lazy=lazy)


def own_units(tree: ast.AST, *, lazy: bool) -> set[str]:
    parts = (name.split(".") for name in imported(tree, lazy=lazy))
    return {part[1] for part in parts if part[0] == "audiotokens" and len(part) > 1 and part[1] in RANKS}


def floor(name: str) -> int:
    """0 for the ground floor, 1 for the torch floors, 2 for applications, 3 for the command line."""
    if name in GROUND_NAMES:
        return 0
    return 1 if RANKS[name] <= RANKS["verify"] else 2 + (name == "cli")


@each_file
def test_every_file_has_its_place(path: Path) -> None:
    assert unit(path) in {"", *RANKS}, f"add {unit(path)} to the order of this test, where it belongs"


@each_file
def test_imports_point_down(path: Path) -> None:
    own = unit(path)
    if not own:
        assert not own_units(parse(path), lazy=False)
        return
    higher = [name for name in own_units(parse(path), lazy=False) if RANKS[name] > RANKS[own]]
    assert not higher, f"{own} imports {higher}, which stand above it"


def test_imports_make_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        graph.setdefault(unit(path), set()).update(own_units(parse(path), lazy=False) - {unit(path)})
    graphlib.TopologicalSorter(graph).prepare()


@each_file
def test_late_imports_stay_on_their_floor_too(path: Path) -> None:
    own = unit(path)
    if own:
        higher = [name for name in own_units(parse(path), lazy=True) if floor(name) > floor(own)]
        assert not higher, f"{own} imports {higher} in a function, from a higher floor"


@each_file
def test_applications_keep_out_of_each_others_private_parts(path: Path) -> None:
    for name in imported(parse(path), lazy=True):
        parts = name.split(".")
        if (
            parts[0] == "audiotokens"
            and len(parts) > 2
            and parts[1] in APPLICATIONS
            and parts[1] != unit(path)
        ):
            assert not any(part.startswith("_") for part in parts), name


@each_file
def test_optional_packages_are_imported_where_they_are_used(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported(parse(path), lazy=False)}
    assert not roots & OPTIONAL
    if unit(path) in {"", "cli", "verify", *GROUND_NAMES}:
        assert "torch" not in roots


@each_file
def test_no_asserts_no_pickles_no_evaluation_of_data(path: Path) -> None:
    tree = parse(path)
    names = {*imported(tree, lazy=True)}
    assert not {name.split(".")[0] for name in names} & UNSAFE
    assert not names & UNPICKLERS
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: raise a house error"
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {"eval", "exec"}, f"line {node.lineno}"
        if isinstance(node, ast.Attribute) and ast.unparse(node) in UNPICKLERS:
            assert path == TORCH_FILES, f"line {node.lineno}: safetensors, or checkpoints/torchfiles.py"


def test_torch_files_are_read_by_the_weights_only_unpickler() -> None:
    calls = [node for node in ast.walk(parse(TORCH_FILES)) if isinstance(node, ast.Call)]
    loads = [call for call in calls if ast.unparse(call.func) == "torch.load"]
    named = [node for node in ast.walk(parse(TORCH_FILES)) if ast.unparse(node) in UNPICKLERS]
    assert len(loads) == len(named) == 1, "one place, called there and nowhere handed on"
    (only,) = [keyword.value for keyword in loads[0].keywords if keyword.arg == "weights_only"]
    assert isinstance(only, ast.Constant) and only.value is True
    assert {keyword.arg for keyword in loads[0].keywords} == {"map_location", "mmap", "weights_only"}


@each_file
def test_sizes(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= (600 if unit(path) == "architectures" else 400)
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"


@each_file
def test_public_signatures_have_no_keyword_tunnel(path: Path) -> None:
    scopes = [parse(path), *(node for node in ast.walk(parse(path)) if isinstance(node, ast.ClassDef))]
    for node in (node for scope in scopes for node in scope.body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            assert node.args.kwarg is None, f"{node.name} takes **{node.args.kwarg.arg}"


@each_file
def test_extras_that_messages_name_exist(path: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("MissingExtraError"):
            named = [argument.value for argument in node.args[1:] if isinstance(argument, ast.Constant)]
            named += [k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)]
            assert set(named) <= set(extras), f"line {node.lineno}: {named}"


@each_file
def test_public_names_are_documented(path: Path) -> None:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    if any(part.startswith("_") and part != "__init__" for part in parts):
        return
    module = importlib.import_module(".".join(part for part in parts if part != "__init__"))
    bare = [] if path.name == "__init__.py" or module.__doc__ else [module.__name__]
    for name, item in vars(module).items():
        defined = getattr(item, "__module__", None), getattr(item, "__qualname__", None)
        own = defined == (module.__name__, name) and not name.startswith("_")
        if own and (inspect.isfunction(item) or inspect.isclass(item)):
            bare += [name] if not inspect.getdoc(item) else []
            bare += [f"{name}.{member}" for member in undocumented(item)]
    assert not bare


def undocumented(item: object) -> Iterator[str]:
    """Public methods and properties of a class that neither it nor a base documents."""
    for name, member in vars(item).items() if inspect.isclass(item) else ():
        plain = inspect.isfunction(member) or isinstance(member, property | classmethod | staticmethod)
        if plain and not name.startswith("_") and not inspect.getdoc(getattr(item, name)):
            yield name


def test_public_surface() -> None:
    assert sorted(audiotokens.__all__) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(audiotokens, name) is not None
    assert set(PUBLIC) <= set(dir(audiotokens))
    with pytest.raises(AttributeError, match="no attribute 'encode'"):
        _ = audiotokens.encode  # type: ignore[attr-defined]


def quiet_python(code: str, *arguments: str) -> None:
    finished = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr


COMMAND = """
import sys
from audiotokens.cli import main
sys.argv = ["audiotokens", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    if end.code:
        raise
"""
NO_TORCH = 'if "torch" in sys.modules: sys.exit("torch was imported")'


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    stream = audiotokens.CodeStream(np.zeros((2, 50), np.int64), (1024, 1024), Fraction(50))
    path = tmp_path_factory.mktemp("house") / "example.tok"
    audiotokens.Tokens({"codes": stream}, 16000, 16000, 1, "example", "0" * 64).save(path)
    return path


@pytest.mark.parametrize(
    "arguments", [["--help"], ["encode", "--help"], ["info"], ["info", "--json"], ["list"]]
)
def test_light_commands_import_no_torch(arguments: list[str], token_file: Path) -> None:
    files = [str(token_file)] if arguments[0] == "info" else []
    quiet_python(COMMAND + NO_TORCH, *arguments, *files)


def test_reading_tokens_imports_no_torch(token_file: Path) -> None:
    code = "import sys, audiotokens\n[getattr(audiotokens, name) for name in audiotokens.__all__]\n"
    quiet_python(code + "audiotokens.read_tokens(sys.argv[1]).codes\n" + NO_TORCH, str(token_file))


def seconds(code: str, *arguments: str) -> float:
    start = time.perf_counter()
    quiet_python(code, *arguments)
    return time.perf_counter() - start


def test_help_is_instant() -> None:
    pairs = [(seconds("import numpy"), seconds(COMMAND, "--help")) for _ in range(5)]
    numpy_alone, help_text = (min(times) for times in zip(*pairs, strict=True))
    assert help_text <= numpy_alone + 0.3


def tracked() -> list[Path]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_the_repository_is_small() -> None:
    assert sum(path.stat().st_size for path in tracked()) < 15 * 2**20


def test_nothing_is_left_lying_about() -> None:
    marks = ["TO" + "DO", "FIX" + "ME", "/wo" + "rk/", "/ro" + "ot/"]
    texts = [path for path in tracked() if path.suffix in {".py", ".md", ".toml", ".yml", ".yaml"}]
    found = [
        (path.name, mark) for path in texts for mark in marks if mark in path.read_text(encoding="utf-8")
    ]
    assert not found


def test_training_needs_no_audio_library() -> None:
    code = (
        "import sys; sys.modules['soundfile'] = sys.modules['soxr'] = None; "
        "import audiotokens.training.loop, audiotokens.architectures.gain_shape; print('ok')"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout == "ok\n", finished.stderr

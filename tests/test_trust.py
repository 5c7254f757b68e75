"""Nothing in our code would run what stored data brings: no pickle, no unsafe YAML, no evaluated text, no unpacking."""

import ast

import pytest

from tests.test_imports import MAY_IMPORT, modules_of

UNPICKLE = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
RUN_TEXT = {"eval", "exec", "compile", "os.system", "os.popen", "runpy.run_path", "torch.jit.load", "torch.hub.load"}
RUN_TEXT |= {"__import__", "torch.save"}
UNPACK = (".extract", ".extractall", ".unpack_archive", ".read_pickle", ".to_pickle")
UNSAFE_YAML = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all"}
NEEDS = {"torch.load": ("weights_only", True)}
NEEDS |= {f"{numpy}.{name}": ("allow_pickle", False) for numpy in ("np", "numpy") for name in ("load", "save")}
"""Calls that must say so."""
REFUSED = {("trust_remote_code", True), ("allow_pickle", True), ("weights_only", False), ("shell", True)}
CODE_OF_MODELS = {"mlflow.pyfunc.load_model", "mlflow.pytorch.load_model"}


def dangers(source: str) -> list[str]:
    """What a module does that it must not, with lines."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            names = [f"{module}.{alias.name}".strip(".") for alias in node.names]
            wrong_names = [name for name in names if UNPICKLE & set(name.split(".")) or name in {*NEEDS, *RUN_TEXT}]
            found += [f"{node.lineno}: import of {name}" for name in wrong_names]
        if not isinstance(node, ast.Call):
            continue
        called, said = ast.unparse(node.func), {each.arg: ast.unparse(each.value) for each in node.keywords}
        wrong = called in RUN_TEXT | UNSAFE_YAML | CODE_OF_MODELS or called.endswith(UNPACK)
        wrong |= bool(UNPICKLE & set(called.split(".")))
        wrong |= called in NEEDS and said.get(NEEDS[called][0]) != str(NEEDS[called][1])
        wrong |= any(said.get(name) == str(value) for name, value in REFUSED)
        if wrong:
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_no_module_runs_what_stored_data_brings(room: str):
    assert {str(path): found for path in modules_of(room) if (found := dangers(path.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from cloudpickle import loads",
        "import ray.cloudpickle",
        "ray.cloudpickle.loads(data)",
        "__import__('pickle')",
        "from numpy import load",
        "numpy.load(path)",
        "pandas.read_pickle(path)",
        "torch.save(tensors, path)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, yaml.Loader)",
        "eval(text)",
        "tar.extractall(folder)",
        "subprocess.run(text, shell=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "mlflow.pyfunc.load_model(uri)",
    ],
)
def test_each_danger_would_be_seen(line: str):
    assert dangers(f"def f():\n    {line}\n")

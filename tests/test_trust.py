"""No module of the project runs code of stored data: no pickle, no unsafe YAML, no evaluated text, no unpacking."""

import ast

import pytest

from tests.test_imports import MODULES, PROJECT

UNPICKLE = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
RUN_TEXT = {"eval", "exec", "compile", "runpy.run_path", "torch.jit.load", "torch.hub.load", "__import__", "torch.save"}
RUN_TEXT |= {f"os.{name}" for name in ("system", "popen", "execv", "execvp", "execve", "execl", "spawnv")}
UNPICKLING = (".read_pickle", ".to_pickle")
UNPACK = (".extract", ".extractall", ".unpack_archive", *UNPICKLING)
UNSAFE_YAML = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.unsafe_load_all"}
NEEDS = {"torch.load": ("weights_only", "True"), ".read_array": ("allow_pickle", "False")}
NEEDS |= {f"{numpy}.{name}": ("allow_pickle", "False") for numpy in ("np", "numpy") for name in ("load", "save")}
NEEDS |= {f".{name}": ("trust_remote_code", "False") for name in ("from_pretrained", "from_config")}
"""Calls and the argument that they must pass, with its value."""
ALWAYS = {"trust_remote_code": "False", "allow_pickle": "False", "weights_only": "True", "shell": "False"}
"""Arguments and the value that every call must pass."""
CODE_OF_MODELS = {"mlflow.pyfunc.load_model", "mlflow.pytorch.load_model"}


def names_of(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for, as `t` for torch after `import torch as t`."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dangers(source: str) -> list[str]:
    """What a module does that it must not, with lines."""
    tree = ast.parse(source)
    names, found = names_of(tree), []
    forbidden = RUN_TEXT | UNSAFE_YAML | CODE_OF_MODELS
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            brought = [f"{module}.{alias.name}".strip(".") for alias in node.names]
            wrong_names = [
                name
                for name in brought
                if UNPICKLE & set(name.split(".")) or name in {*NEEDS, *forbidden} or name.endswith(UNPICKLING)
            ]
            found += [f"{node.lineno}: import of {name}" for name in wrong_names]
        if not isinstance(node, ast.Call):
            continue
        written = ast.unparse(node.func)
        first, _, rest = written.partition(".")
        called = ".".join(filter(None, [names.get(first, first), rest]))
        said = {each.arg: ast.unparse(each.value) for each in node.keywords}
        wrong = called in forbidden or written.endswith(UNPACK)
        wrong |= bool(UNPICKLE & set(called.split(".")))
        wrong |= any(
            (called == name or (name[0] == "." and f".{called}".endswith(name))) and said.get(keyword) != value
            for name, (keyword, value) in NEEDS.items()
        )
        wrong |= any(said.get(keyword, value) != value for keyword, value in ALWAYS.items())
        if wrong:
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("package", PROJECT)
def test_no_module_runs_what_stored_data_brings(package: str):
    modules = {name: path for name, path in MODULES.items() if name.split(".")[0] == package}
    assert modules
    found = {name: dangers(path.read_text(encoding="utf-8")) for name, path in modules.items()}
    assert {name: lines for name, lines in found.items() if lines} == {}


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
        "from mlflow.pyfunc import load_model",
        "from yaml import unsafe_load",
        "import yaml as y; y.load(text, y.Loader)",
        "import torch as t; t.load(path)",
        "import numpy as n; n.load(path, allow_pickle=1)",
        "np.lib.format.read_array(file, allow_pickle=flag)",
        "from pandas import read_pickle",
        "AutoModel.from_pretrained(name)",
        "os.execvp(name, words)",
    ],
)
def test_each_danger_would_be_seen(line: str):
    assert dangers(f"def f():\n    {line}\n")

"""The console entry point `shan <command> ...`, which takes the same arguments as `python -m jobs.<command>`.

A console script does not put the current folder on the module search path, so `shan` also works in a folder that has
packages named `jobs`, `infra` or `pipelines`.
"""

import importlib
import sys

COMMANDS = {
    "quickstart": "run the complete pipeline on this machine, on rendered scenes or your data set",
    "pipeline": "extract, train, evaluate, promote and, with --until index, index as one resumable job",
    "extract": "extract region features from photos into a feature set",
    "features": "verify, inspect, clean up, import or export a feature set",
    "train": "train a model on a feature set and register a version",
    "sweep": "train with many settings, stop weak trials early, register the best",
    "evaluate": "measure recalls of models on a split, with confidence intervals",
    "reproduce": "train the models of the paper's tables on SCAN's features and compare recalls",
    "behaviour": "run behavioural tests of a model",
    "promote": "make a version champion if it is better, or roll back",
    "lineage": "print where a model, run, feature set or index comes from, and check it",
    "index": "encode photos and captions into a search index; verify or clean up one",
    "search": "rank photos for text queries, or captions for photos",
    "serve": "serve a search index over HTTP",
    "rerank": "measure retrieve-and-rerank against exact scoring",
    "submit": "run a command on a Ray cluster",
    "status": "print the state of feature sets, indexes, runs, models and jobs",
}
"""Every command and what it does; each is a module of this package with a function `main`."""


def main() -> None:
    """Runs the command that the first argument names. The modules of the other commands are not imported."""
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print("usage: shan COMMAND [--help] ...\n\ncommands:")
        print("\n".join(f"  {name:{width}}  {purpose}" for name, purpose in COMMANDS.items()))
        return
    if command not in COMMANDS:
        sys.exit(_unknown(command))
    sys.argv[1:] = arguments
    from jobs import cli

    cli.run(lambda: importlib.import_module(f"jobs.{command}").main())  # an interrupt of the import is one line, too


def _unknown(command: str) -> int:
    print(f"error: unknown command '{command}'; choose one of {', '.join(COMMANDS)}", file=sys.stderr)
    return 2

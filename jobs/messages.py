"""Help texts and errors of argparse and jsonargparse in terms of the command line, without names of Python types."""

import re
from difflib import get_close_matches
from typing import Any


def plain_error(message: str, parser: Any) -> str:
    """Returns a message of argparse or jsonargparse in terms of the command line: argument, value, what to give."""
    text = plain_types(" ".join(message.split()))
    own = [action for action in parser._actions if "." not in action.dest]  # noqa: SLF001
    names = {action.dest: next(iter(action.option_strings), str(action.metavar)) for action in own}
    if value := re.fullmatch(r'Parser key "(.+?)": Expected (.+?)\. Got value: ?(.*)', text):
        wanted = re.sub(r"^a (?=text|true)", "", value[2])
        wanted += f""", such as '["{value[3]}"]'""" if wanted == "a list" else ""
        return f"{names.get(value[1], value[1])} is '{value[3]}'; give {wanted}"
    if choice := re.fullmatch(r"argument (.+?): invalid choice: (.+) \(choose from (.*)\)", text):
        return f"{choice[1]} is {choice[2]}; give one of {choice[3]}"
    if missing := re.fullmatch(r"the following arguments are required: (.*)", text):
        return " and ".join(names.get(name, name) for name in missing[1].split(", ")) + " must be given"
    if unknown := re.match(r"unrecognized arguments: (--[^\s=]+)", text):
        nearest = get_close_matches(unknown[1], parser._option_string_actions, 1, cutoff=0.8)  # noqa: SLF001
        return f"{text}; the nearest option is {nearest[0]}" if nearest else text
    text = re.sub(r"^argument (.+?): expected .*", r"\1 has no value; give one", text)
    return re.sub(r"^Group '(.+?)' does not accept option '(.*)'", r"\1 has no field '\2'; correct the name", text)


def plain_types(text: str) -> str:
    """Replaces Python's representations of types, in messages and help, by their names."""
    names = {"int": "whole number", "float": "number", "bool": "true or false", "str": "text", "Path": "path"}
    names |= {"dict": "JSON object", "tuple": "list"}
    text = re.sub(r"a typing\.Literal\[(.*?)\]", r"one of \1", text)
    return re.sub(r"<class\s+'(?:\w+\.)*(\w+)'>", lambda match: names.get(match[1], match[1]), text)


def plain_help(text: str) -> str:
    """Names types plainly, leaves out types that the choices state, and defaults of a command's own unset options."""
    text = re.sub(r"type:\s+Literal\[[^\]]*\],\s+|,\s+type:\s+Literal\[[^\]]*\]", "", plain_types(text))
    entries = re.split(r"^(?=  [-A-Z])", text, flags=re.MULTILINE)
    own = re.compile(r"  (?:--[\w-]+(?![\w.-])|[A-Z])")
    return "".join(re.sub(r",?\s+\(?default:\s+null\)", _closing, e) if own.match(e) else e for e in entries)


def _closing(null: re.Match[str]) -> str:
    """Returns the rest of `(default: null)`, or of `(type: str, default: null)`."""
    return "" if "(" in null[0] else ")"

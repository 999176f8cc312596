"""The command `completion`: a script for a shell, written from the table of commands. Nothing runs at each key."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tellapart.core.output import print_out
from tellapart.core.text import Lines
from tellapart.errors import UsageError

SHELLS = ("bash", "zsh", "fish")
_BASH = """_tellapart() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" words
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{commands}"
  else
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
    case "$current" in -*) ;; *) words="";; esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _tellapart tellapart"""


def completion(
    context: typer.Context,
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")],
) -> None:
    """Print a script that completes commands and options. For bash: `source <(tellapart completion bash)`."""
    if shell not in SHELLS:
        raise UsageError(f"There is no completion for {shell}.", f"Possible: {', '.join(SHELLS)}.")
    options = options_of(context.find_root().command)
    print_out(Lines(fish_script(options) if shell == "fish" else bash_script(options, shell == "zsh")))


def options_of(group: Any) -> dict[str, list[str]]:
    """Command → its options, and the names of the commands below it."""
    return {
        name: [
            *getattr(command, "commands", {}),
            *(option for each in command.params for option in each.opts if option.startswith("-")),
            "--help",
        ]
        for name, command in group.commands.items()
    }


def bash_script(options: dict[str, list[str]], zsh: bool) -> str:
    """A function for bash; zsh takes it through its own `bashcompinit`."""
    cases = "\n".join(f'      {name}) words="{" ".join(words)}";;' for name, words in options.items())
    script = _BASH.format(commands=" ".join(options), cases=cases)
    return f"autoload -U +X bashcompinit && bashcompinit\n{script}" if zsh else script


def fish_script(options: dict[str, list[str]]) -> str:
    """A line a command, and one an option."""
    lines = [f"complete -c tellapart -n __fish_use_subcommand -a {name}" for name in options]
    for name, words in options.items():
        below = f"complete -c tellapart -n '__fish_seen_subcommand_from {name}'"
        lines += [f"{below} {_fish_word(word)}" for word in words]
    return "\n".join(lines)


def _fish_word(word: str) -> str:
    """A long option, a short one, or the name of a command."""
    return f"-l {word[2:]}" if word[:2] == "--" else f"-s {word[1:]}" if word[0] == "-" else f"-a {word}"

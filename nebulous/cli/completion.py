"""`nebu completion`: the script that lets a shell complete commands and flags."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from nebulous.cli.failures import UsageError

HINTS = {
    "bash": 'eval "$(nebu completion bash)"  in ~/.bashrc',
    "zsh": 'eval "$(nebu completion zsh)"  in ~/.zshrc',
    "fish": "nebu completion fish > ~/.config/fish/completions/nebu.fish",
}


def command(
    shell: Annotated[Literal["bash", "zsh", "fish"] | None, typer.Argument(help="Default: your own.")] = None,
) -> None:
    """Print the completion script; for bash, add to ~/.bashrc: eval "$(nebu completion bash)"."""
    chosen = shell or os.path.basename(os.environ.get("SHELL", ""))
    if chosen not in HINTS:
        raise UsageError(f"no completion for shell {chosen!r}", f"choose one: nebu completion {'|'.join(HINTS)}")
    from nebulous.cli.main import run

    os.environ["_NEBU_COMPLETE"] = f"source_{chosen}"  # the protocol by which typer prints its script
    run([])

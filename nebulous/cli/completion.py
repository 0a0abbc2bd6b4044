"""`nebu completion`: the script that lets a shell complete verbs, names, flags and their values."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from nebulous.cli.failures import UsageError
from nebulous.cli.screen import emit

BASH = r"""# In ~/.bashrc:  eval "$(nebu completion bash)"
_nebu_completion() {
    local IFS=$'\n' line="${COMP_LINE:0:$COMP_POINT}"
    COMPREPLY=($(COMP_LINE="$line" COMP_WORDBREAKS="$COMP_WORDBREAKS" _NEBU_COMPLETE=bash "$1" 2>/dev/null))
    if [ "${COMPREPLY[0]}" = ":files" ]; then
        COMPREPLY=()
        compopt -o default 2>/dev/null
    elif [[ "${COMPREPLY[0]}" == *[:/] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _nebu_completion nebu"""

ZSH = r"""#compdef nebu
# In ~/.zshrc, after compinit:  eval "$(nebu completion zsh)"
_nebu() {
    local -a found
    found=("${(@f)$(COMP_LINE="${words[1,CURRENT]}" _NEBU_COMPLETE=zsh "${words[1]}" 2>/dev/null)}")
    if [[ "${found[1]}" == ":files" ]]; then
        _files
    elif [[ -n "${found[1]}" ]]; then
        _describe -V nebu found
    fi
}
compdef _nebu nebu"""

FISH = r"""# nebu completion fish > ~/.config/fish/completions/nebu.fish
function __nebu_complete
    set -lx COMP_LINE (commandline -cp)
    set -lx _NEBU_COMPLETE fish
    set -l found (nebu 2>/dev/null)
    if test "$found[1]" = ":files"
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $found
    end
end
complete -c nebu -f -a '(__nebu_complete)'"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def command(
    shell: Annotated[Literal["bash", "zsh", "fish"] | None, typer.Argument(help="Default: your own.")] = None,
) -> None:
    """Print the completion script; for bash, add to ~/.bashrc: eval "$(nebu completion bash)"."""
    chosen = shell or os.path.basename(os.environ.get("SHELL", ""))
    if chosen not in SCRIPTS:
        raise UsageError(f"no completion for shell {chosen!r}", f"choose one: nebu completion {'|'.join(SCRIPTS)}")
    emit(SCRIPTS[chosen])

"""An example or two of every verb, for its help and for docs/cli.md."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "run": (
        ("nebu run --image busybox -- echo hello", "a command, its output, its exit code"),
        ("nebu run --rm --accelerators 1:A100 --image pytorch/pytorch -- nvidia-smi", "and nothing is left of it"),
        ("nebu run -d --cmd 'sleep 60; echo done'", "prints the name and returns"),
    ),
    "create": (
        ("nebu create container --name hello --image busybox --cmd 'echo hello' --wait", ""),
        ("nebu create -f train.yaml --platform runpod --dry-run", "ranked offers; creates nothing"),
        ("nebu create container --image busybox --cmd 'exit 3' --follow --rm", "ends with code 3"),
        ("nebu create secret hf-token --value -", "reads standard input"),
    ),
    "apply": (
        ("nebu apply -f train.yaml", "shows what would change, and asks before a new life"),
        ("nebu apply -f deploy/ --replace --yes", "a folder; for scripts"),
    ),
    "diff": (("nebu diff -f train.yaml", "exit code 0: nothing would change, 1: something"),),
    "get": (
        ("nebu get containers -l team=research", ""),
        ("nebu get container foo -o yaml", ""),
        ("nebu get offers --accelerators 1:A100 --platform runpod --max-price 2", "what could be rented now"),
        ("nebu get accelerators", ""),
        ("nebu get containers -w", "then a line for each change"),
    ),
    "describe": (("nebu describe foo", ""), ("nebu describe secret/hf-token", "")),
    "logs": (("nebu logs -f foo", "ends with the command's own exit code"), ("nebu logs --tail 100 foo", "")),
    "exec": (
        ("nebu exec -it foo", "a shell"),
        ("nebu exec foo -- nvidia-smi", ""),
        ("echo x | nebu exec -i foo -- cat", ""),
    ),
    "ssh": (
        ("nebu ssh foo", "a login shell"),
        ("nebu ssh foo 'cd /data && ls'", ""),
        (
            "nebu ssh --config >~/.ssh/nebu.conf",
            "with `Include nebu.conf` at the top of ~/.ssh/config: ssh foo.nebu, rsync, ssh -L",
        ),
    ),
    "port-forward": (
        ("nebu port-forward foo 8888", "then: http://localhost:8888"),
        ("nebu port-forward foo 0:80", "any free port here"),
    ),
    "cp": (("nebu cp foo:/data/out.txt .", ""), ("nebu cp src foo:/work", "")),
    "watch": (("nebu watch containers -l team=research -o json", "one object a line"),),
    "events": (("nebu events foo", ""),),
    "top": (("nebu top", "everything that runs"), ("nebu top foo -w", "again and again")),
    "wait": (("nebu wait foo --for running --timeout 5m", ""), ("nebu wait a b", "until all have finished")),
    "stop": (("nebu stop foo bar", ""), ("nebu stop containers --all --yes", "the panic button")),
    "start": (("nebu start foo", ""),),
    "restart": (("nebu restart -l team=research", ""),),
    "delete": (
        ("nebu delete containers foo bar", "waits for the proof that nothing is left"),
        ("nebu delete -f train.yaml --no-wait", ""),
    ),
    "login": (("nebu login --url https://nebulous.example.com", "asks for the token"),),
    "logout": (("nebu logout", ""),),
    "whoami": (("nebu whoami", ""),),
    "config": (("nebu config contexts", ""), ("nebu config use local -n research", "")),
    "doctor": (("nebu doctor", ""),),
    "schema": (("nebu schema container > container.schema.json", ""),),
    "completion": (('eval "$(nebu completion bash)"', "in ~/.bashrc"),),
    "version": (("nebu version", ""),),
    "serve": (("nebu serve", ""), ("nebu serve --simulate runpod,ec2,gce", "clouds without an account")),
    "api": (("NEBU_TEMPORAL_ADDRESS=temporal:7233 nebu api --port 3000", ""),),
    "worker": (("NEBU_TEMPORAL_ADDRESS=temporal:7233 nebu worker", ""),),
    "token": (
        ("nebu token create --admin --days 7", "where NEBU_SIGNING_KEY or the data directory is the API's"),
        ("docker compose exec api nebu token create --admin", "for `nebu login`: docs/production.md"),
    ),
}


def epilog(verb: str) -> str | None:
    """The examples below a verb's help; each on a line of its own, long ones too."""
    lines = [f"  {line}{f'   # {note}' if note else ''}" for line, note in EXAMPLES.get(verb, ())]
    return "\b\nExamples:\n" + "\n".join(lines) if lines else None

"""What a person may ask of a container, and what they are told when it is wrong."""

from datetime import timedelta
from typing import Any

import pytest

from nebulous.models.base import InvalidDocument, check
from nebulous.models.containers import ContainerSpec, parse_accelerator, shown_command


def spec(**given: Any) -> ContainerSpec:
    return check(ContainerSpec, {"image": "x", **given})


def problems(**given: Any) -> list[str]:
    with pytest.raises(InvalidDocument) as refused:
        check(ContainerSpec, {"image": "x", **given})
    return [str(problem) for problem in refused.value.problems]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"cmmand": "x"}, "cmmand: unknown field; did you mean 'command'?"),
        ({"resources": {"cpu": 1}}, "resources.cpu: unknown field; did you mean 'min_cpu'?"),
        ({"env": [{"key": "A", "valu": "b"}]}, "env_vars[0].valu: unknown field; did you mean 'value'?"),
        ({"image": 3.11}, 'image: should be text, not 3.11; in quotes it is: "3.11"'),
        ({"image": ""}, "image is empty"),
        ({"image": None}, "image or command is required: there is nothing to run"),
        ({"command": 5}, 'command: should be text or a list, not 5; in quotes it is: "5"'),
        ({"command": True}, 'command: should be text or a list, not True; in quotes it is: "true"'),
        ({"command": ["sleep", 10]}, 'command[1]: should be text, not 10; in quotes it is: "10"'),
        ({"command": []}, "command: is empty: leave it out, or write at least one entry"),
        ({"command": " "}, "command: command is empty: leave it out to run the image's own"),
        ({"command": "a\0b"}, "command: holds the character '\\x00', which cannot be passed on to a program"),
        ({"command": ["\ud800"]}, "command[0]: holds the character '\\ud800', which cannot be passed on to a program"),
        ({"command": "a", "args": ["b"]}, "args goes with the image's own command: give command or args, not both"),
        ({"accelerators": "1:A100"}, "accelerators: should be a list, not '1:A100'"),
        ({"accelerators": ["A100"]}, "accelerators: 'A100' is not COUNT:NAME; write for example '1:A100' or '8:H100'"),
        (
            {"accelerators": ["0:A100"]},
            "accelerators: '0:A100' is not COUNT:NAME; write for example '1:A100' or '8:H100'",
        ),
        (
            {"restart": "always"},
            "restart: 'always' is not allowed; did you mean 'Always'? choose one of Never, OnFailure, Always",
        ),
        ({"kind": "Pod"}, "kind: 'Pod' is not allowed; choose one of Container"),
        ({"env": {"A": "b"}}, "env_vars: should be a list, not {'A': 'b'}"),
        ({"env": ["A=b"]}, "env_vars[0]: should be `key: value` lines, not 'A=b'"),
        ({"env": [{"value": "b"}]}, "env_vars[0].key: is required"),
        ({"env": [{"key": "A"}]}, "env_vars[0]: variable 'A' needs either value or secret_name"),
        (
            {"env": [{"key": "A-B", "value": "c"}]},
            "env_vars[0]: key 'A-B' is no variable name: use letters, digits and '_'",
        ),
        (
            {"env": [{"key": "A\n", "value": "c"}]},
            "env_vars[0]: key 'A\\n' is no variable name: use letters, digits and '_'",
        ),
        ({"env": [{"key": "A", "value": "b"}] * 2}, "env_vars: variable 'A' is given twice"),
        ({"resources": {"min_cpu": "two"}}, "resources.min_cpu: should be a number, not 'two'"),
        ({"resources": {"min_cpu": -1}}, "resources.min_cpu: should be greater than 0, not -1"),
        ({"resources": {"max_memory": float("inf")}}, "resources.max_memory: should be a finite number, not inf"),
        ({"resources": {"min_cpu": 4, "max_cpu": 2}}, "resources: min_cpu 4 is more than max_cpu 2"),
        ({"ports": [8080]}, "ports[0]: should be `key: value` lines, not 8080"),
        ({"ports": [{"port": 70000}]}, "ports[0].port: should be less than or equal to 65535, not 70000"),
        ({"max_retries": 1.5}, "max_retries: should be a whole number, not 1.5"),
        ({"spot": "maybe"}, "spot: should be true or false, not 'maybe'"),
        ({"volumes": [{"source": "s3://a"}]}, "volumes[0].dest: is required"),
        ({"meters": [{"metric": "runtime", "currency": "USD"}]}, "meters[0]: a meter needs either cost or costp"),
        ({"proxy_port": 80}, "proxy_port: is not enforced by this release, so it is not accepted; leave it out"),
        ({"metadata": "foo"}, "metadata: should be `key: value` lines, not 'foo'"),
        ({"metadata": {"labels": {"a-b": [1]}}}, "metadata.labels.a-b: should be text, not [1]"),
        (
            {"health_check": {"path": "/", "command": "x"}},
            "health_check: a health check needs either path or command, not both",
        ),
        ({"health_check": {"port": 80}}, "health_check: a health check needs path or command"),
        ({"health_check": {"command": ""}}, "health_check: the health check's command is empty"),
        (
            {"health_check": {"path": "ready", "port": 80}},
            "health_check.path: 'ready' is no HTTP path: it begins with '/' and has no spaces",
        ),
        (
            {"health_check": {"command": "x", "interval": "0s"}},
            "health_check.interval: '0s' is too short: at least 100ms",
        ),
        (
            {"ports": [{"port": 8080, "public": "perhaps"}]},
            "ports[0].public: should be true or false, not 'perhaps'",
        ),
        ({"keep_on_failure": "2d"}, "keep_on_failure: '2d' is too long: a failed machine is kept for at most 24h"),
        ({"notify": "example.com/hook"}, "notify: 'example.com/hook' is no http:// or https:// URL"),
        ({"notify": "https://"}, "notify: 'https://' is no http:// or https:// URL"),
        (
            {"notify": "http://h:port/"},
            "notify: 'http://h:port/' is no URL: Port could not be cast to integer value as 'port'",
        ),
        (
            {"notify": "https://ada:pw@example.com"},
            "notify: a URL with a login would be shown to every member: put a token into its path",
        ),
        (
            {"ssh_keys": [{"public_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl"}]},
            "ssh_keys[0].public_key: this is a private key: give the public one, from the file that ends in .pub",
        ),
        (
            {"ssh_keys": [{"public_key": "ssh-ed25519"}]},
            "ssh_keys[0].public_key: this is no public key: give one line such as 'ssh-ed25519 AAAA… name'",
        ),
        (
            {"ssh_keys": [{}]},
            "ssh_keys[0]: a key needs public_key, public_key_secret or copy_local",
        ),
    ],
)
def test_one_mistake_is_one_line_that_names_field_value_and_remedy(given: dict[str, Any], problem: str):
    assert problems(**given) == [problem]


@pytest.mark.parametrize(
    "field", ["timeout", "stop_grace", "provision_timeout", "ttl_after_finished", "keep_on_failure"]
)
@pytest.mark.parametrize("given", [30, "30", "soon", "", True])
def test_a_bad_duration_is_refused_with_how_to_write_one(field: str, given: object):
    (problem,) = problems(**{field: given})
    assert problem.startswith(f"{field}: ")
    assert problem.endswith("is not a duration: write a number with a unit, such as 30s, 5m, 1h30m or 7d")


def test_all_mistakes_are_told_at_once():
    assert len(problems(cmmand="x", restart="No", timeout="soon", ports=[{"port": 0}, {"port": -1}])) == 5


def test_an_unknown_field_like_no_other_is_refused_with_all_known_ones():
    assert problems(env=[{"key": "A", "value": "b", "zzzzzz": 1}]) == [
        "env_vars[0].zzzzzz: unknown field; known fields are key, secret_name, value"
    ]


def test_of_many_known_fields_the_message_says_where_they_are_listed():
    assert problems(zzzzzz=1) == [
        "zzzzzz: unknown field; `nebu schema container` and docs/fields.md list what there is"
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a/b/c", "name 'a/b/c' must be NAME or ORGANIZATION/NAME, with one slash at most"),
        ("/b", "name '/b' must be NAME or ORGANIZATION/NAME, with one slash at most"),
        ("a" * 64, "name 'aaaaaaaaaaaaaaaaaaaa…' has 64 characters; at most 63 are allowed"),
        (
            "-a",
            "name '-a' is not allowed: use letters, digits, '-', '_' and '.', beginning and ending with a letter or",
        ),
        (
            "a!/b",
            "organization 'a!' is not allowed: use letters, digits, '-', '_' and '.', beginning and ending with a",
        ),
        (
            "logs",
            "name 'logs' is reserved; reserved are events, exec, files, logs, messages, restart, scale, search, start",
        ),
    ],
)
def test_a_bad_name_is_refused_where_it_stands(name: str, message: str):
    (problem,) = problems(metadata={"name": name})
    assert problem.startswith(f"metadata.name: {message}")


def test_an_organization_in_the_name_must_be_that_of_the_owner():
    assert spec(metadata={"name": "Agentsea/foo", "owner": "agentsea"}).metadata.owner == "Agentsea"
    (problem,) = problems(metadata={"name": "Agentsea/foo", "owner": "other"})
    assert problem == "metadata: name 'Agentsea/foo' says organization 'Agentsea', owner says 'other'"


def test_a_namespace_is_a_name_and_the_message_says_which():
    (problem,) = problems(metadata={"namespace": "a/b"})
    assert problem.startswith("metadata.namespace: namespace 'a/b' is not allowed")


@pytest.mark.parametrize(("given", "kept"), [(3, "3"), (True, "true"), (1.5, "1.5"), ("x", "x")])
def test_label_values_may_be_numbers_and_booleans_and_become_text(given: object, kept: str):
    assert spec(metadata={"labels": {"a": given}}).metadata.labels == {"a": kept}


def test_labels_are_short_and_have_no_equals_sign_in_the_key():
    assert "no '=' in the key" in problems(metadata={"labels": {"a=b": "c"}})[0]
    assert "at most 500 characters" in problems(metadata={"labels": {"a": "b" * 500}})[0]


def test_the_later_upstream_spellings_are_accepted():
    variables = [{"key": "A", "value": "b"}]
    assert spec(env=variables) == spec(env_vars=variables)
    assert spec(metadata={"name": "a", "owner_id": "b"}) == spec(metadata={"name": "a", "owner": "b"})


def test_both_spellings_of_a_field_may_say_the_same_and_not_different_things():
    variables = [{"key": "A", "value": "b"}]
    assert spec(env=variables, env_vars=variables) == spec(env=variables, env_vars=None) == spec(env=variables)
    assert problems(env=variables, env_vars=[]) == ["'env' and 'env_vars' are the same field: give one of them"]


def test_absent_fields_stay_null_so_that_replies_echo_what_was_sent():
    assert {name for name, value in spec().model_dump().items() if value is not None} == {"kind", "image", "restart"}


@pytest.mark.parametrize(
    ("command", "argv", "shown"),
    [
        ("echo $A", ["/bin/sh", "-c", "echo $A"], "echo $A"),
        (["echo", "a b"], ["echo", "a b"], "echo 'a b'"),
        (None, None, None),
    ],
)
def test_a_string_runs_in_a_shell_and_a_list_as_it_is(command, argv, shown):
    assert spec(command=command).argv == argv
    assert shown_command(command) == shown


@pytest.mark.parametrize(
    ("given", "retries"),
    [
        ({}, 0),
        ({"max_retries": 5}, 0),
        ({"restart": "OnFailure"}, 3),
        ({"restart": "OnFailure", "max_retries": 0}, 0),
        ({"restart": "Always"}, None),
        ({"restart": "Always", "max_retries": 2}, 2),
    ],
)
def test_restarts_are_limited_as_documented(given: dict[str, Any], retries: int | None):
    assert spec(**given).retries_allowed == retries


def test_the_defaults_of_durations_are_as_documented():
    default = spec()
    assert default.stop_grace_span == timedelta(seconds=30)
    assert default.provision_span == timedelta(hours=1)
    assert default.ttl_span == timedelta(days=7)
    assert default.timeout_span is None
    assert spec(timeout="1h30m").timeout_span == timedelta(minutes=90)


@pytest.mark.parametrize("entry", ["1:A100\n", "A100", "1:", ":A100", "-1:A100", "1.5:A100", "1:a b", "9999999:A100"])
def test_what_is_not_count_and_name_is_refused(entry: str):
    with pytest.raises(ValueError, match="is not COUNT:NAME"):
        parse_accelerator(entry)


def test_count_and_name_are_split():
    assert parse_accelerator("4:A100-80GB") == (4, "A100-80GB")

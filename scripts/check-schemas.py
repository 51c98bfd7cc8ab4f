"""Checks the committed JSON Schemas with a validator that is not ours.

Every schema must be one (2020-12), every golden file must fit its schema, and a golden file
from which a required field is missing must not: a schema that takes anything proves nothing.
"""

import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator, FormatChecker

SCHEMAS = Path("schemas/json")
GOLDEN = Path("schemas/golden")


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def check(kind: str, golden: Path, every: bool) -> int:
    """Checks the schemas of a kind, and tells how many examples there were."""
    examples = 0
    for path in sorted((SCHEMAS / kind).glob("*.json")):
        schema = read(path)
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator(schema, format_checker=FormatChecker())
        example = golden / path.name
        if not example.exists():
            if every:
                sys.exit(f"{example} is missing")
            continue
        examples += 1
        value = read(example)
        for error in validator.iter_errors(value):
            sys.exit(f"{example}: {error.json_path}: {error.message}")
        for field in schema.get("required", []):
            short = {name: of for name, of in value.items() if name != field}
            if validator.is_valid(short):
                sys.exit(f"{path}: takes {example} without `{field}`")
    return examples


events = check("events", GOLDEN, every=True)
commands = check("commands", GOLDEN / "commands", every=False)
if not events or not commands:
    sys.exit("there are no schemas")
print(f"check-schemas: {events} events and {commands} commands fit their schemas")

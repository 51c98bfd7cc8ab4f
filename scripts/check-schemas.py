"""Checks the committed JSON Schemas and OpenAPI documents with a validator that is not ours.

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


def check_api(path: Path) -> int:
    """Checks every example of an OpenAPI document against the schema beside it."""
    document = read(path)
    examples = 0

    def look(at: str, part) -> None:
        nonlocal examples
        if isinstance(part, list):
            for index, item in enumerate(part):
                look(f"{at}/{index}", item)
        if not isinstance(part, dict):
            return
        if "schema" in part and ("example" in part or "examples" in part):
            schema = {**part["schema"], "components": document["components"]}
            Draft202012Validator.check_schema(schema)
            validator = Draft202012Validator(schema, format_checker=FormatChecker())
            told = [part["example"]] if "example" in part else []
            told += [named["value"] for named in part.get("examples", {}).values()]
            for example in told:
                examples += 1
                if part.get("in") and "integer" in str(schema.get("type")):
                    example = int(example)
                for error in validator.iter_errors(example):
                    sys.exit(f"{path}: {at}: {error.json_path}: {error.message}")
        for name, item in part.items():
            if name not in ("schema", "example", "examples"):
                look(f"{at}/{name}", item)

    look("", document)
    return examples


events = check("events", GOLDEN, every=True)
commands = check("commands", GOLDEN / "commands", every=False)
if not events or not commands:
    sys.exit("there are no schemas")
apis = [check_api(path) for path in sorted(Path("schemas/openapi").glob("*.json"))]
if len(apis) != 2 or not all(apis):
    sys.exit("there are no examples of the APIs")
print(f"check-schemas: {events} events and {commands} commands fit their schemas")
print(f"check-schemas: {sum(apis)} examples of the APIs fit their schemas")

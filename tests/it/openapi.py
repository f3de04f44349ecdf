"""Holds what a proxy says of its API against two libraries that are not ours: is the document
OpenAPI, and is every answer what the document promises? Reads {"document", "answers": {path: answer}}."""

import json
import sys

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

told = json.load(sys.stdin)
document = told["document"]
OpenAPIV31SpecValidator(document).validate()
registry = Registry().with_resource("urn:api", Resource(contents=document, specification=DRAFT202012))
wrong = []
for path, answer in told["answers"].items():
    operation = document["paths"][path]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    # References in it are meant from the document.
    schema = json.loads(json.dumps(schema).replace('"#/', '"urn:api#/'))
    validator = Draft202012Validator(schema, registry=registry)
    wrong += [f"{path}: {error.json_path}: {error.message}" for error in validator.iter_errors(answer)]
print("\n".join(wrong[:20]))
sys.exit(1 if wrong else 0)

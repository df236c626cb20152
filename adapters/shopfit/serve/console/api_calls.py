"""The same call as people make it from programs: as curl and as Python, with the key in KEY if one is needed."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COMPLETIONS = "/v1/completions"


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A request to the public API.

    Args:
        path: such as `/v1/classify`.
        body: as JSON.
    """

    path: str
    body: Mapping[str, Any]

    def curl(self, address: str, keyless: bool = False) -> str:
        """As a command of a shell, which runs as it is.

        Args:
            address: of the gateway, without a slash at its end.
            keyless: whether it asks for no key.
        """
        parts = [
            f"curl -s {shlex.quote(address + self.path)}",
            *([] if keyless else ['-H "Authorization: Bearer $KEY"']),
            '-H "Content-Type: application/json"',
            f"-d {shlex.quote(json.dumps(self.body, ensure_ascii=False))}",
        ]
        return " \\\n  ".join(parts)

    def python(self, address: str, keyless: bool = False) -> str:
        """As a program: with OpenAI's client where that has such a call, else with httpx. Takes what `curl` does."""
        if self.path == COMPLETIONS:
            return self._openai(address, keyless)
        key = "" if keyless else '    headers={"Authorization": f"Bearer {os.environ[\'KEY\']}"},\n'
        return (
            ("" if keyless else "import os\n\n") + "import httpx\n\n"
            "answer = httpx.post(\n"
            f"    {_literal(address + self.path)},\n{key}"
            f"    json={_literal(self.body, 1)},\n"
            "    timeout=60,\n"
            ")\n"
            "answer.raise_for_status()\n"
            "print(answer.json())\n"
        )

    def _openai(self, address: str, keyless: bool) -> str:
        key = '"none"' if keyless else 'os.environ["KEY"]'
        own = {name: value for name, value in self.body.items() if name != "fields"}
        lines = [f"    {name}={_literal(value, 1)},\n" for name, value in own.items()]
        if fields := self.body.get("fields"):
            lines.append(f"    extra_body={_literal({'fields': fields}, 1)},\n")
        return (
            ("" if keyless else "import os\n\n") + "from openai import OpenAI\n\n"
            f"client = OpenAI(base_url={_literal(address + '/v1')}, api_key={key})\n"
            "answer = client.completions.create(\n" + "".join(lines) + ")\n"
            "print(answer.choices[0].text)\n"
        )


def _literal(value: Any, level: int = 0) -> str:
    """A value of JSON as Python writes it, in lines that are indented by so many levels; a text is in one line."""
    pad = "    " * level
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False)
        case Mapping():
            lines = [f"{pad}    {_literal(str(key))}: {_literal(part, level + 1)},\n" for key, part in value.items()]
            return "{\n" + "".join(lines) + pad + "}"
        case list():
            return "[" + ", ".join(_literal(part, level) for part in value) + "]"
        case _:
            return repr(value)

"""The same call as people make it from their own programs: as curl and as Python, with the key in KEY."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pprint import pformat
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

    def curl(self, address: str) -> str:
        """As a command of a shell, which runs as it is.

        Args:
            address: of the gateway, without a slash at its end.
        """
        parts = [
            f"curl -s {shlex.quote(address + self.path)}",
            '-H "Authorization: Bearer $KEY"',
            '-H "Content-Type: application/json"',
            f"-d {shlex.quote(json.dumps(self.body, ensure_ascii=False))}",
        ]
        return " \\\n  ".join(parts)

    def python(self, address: str) -> str:
        """As a program: with OpenAI's client where that has such a call, else with httpx."""
        if self.path == COMPLETIONS:
            return self._openai(address)
        return (
            "import os\n\nimport httpx\n\n"
            "answer = httpx.post(\n"
            f"    {address + self.path!r},\n"
            '    headers={"Authorization": f"Bearer {os.environ[\'KEY\']}"},\n'
            f"    json={_literal(self.body, 9)},\n"
            "    timeout=60,\n"
            ")\n"
            "answer.raise_for_status()\n"
            "print(answer.json())\n"
        )

    def _openai(self, address: str) -> str:
        own = {name: value for name, value in self.body.items() if name != "fields"}
        lines = [f"    {name}={_literal(value, len(name) + 5)},\n" for name, value in own.items()]
        if fields := self.body.get("fields"):
            lines.append(f"    extra_body={_literal({'fields': fields}, 15)},\n")
        return (
            "import os\n\nfrom openai import OpenAI\n\n"
            f'client = OpenAI(base_url={address + "/v1"!r}, api_key=os.environ["KEY"])\n'
            "answer = client.completions.create(\n" + "".join(lines) + ")\n"
            "print(answer.choices[0].text)\n"
        )


def _literal(value: Any, column: int) -> str:
    """A value of JSON as Python writes it, from a column on."""
    return pformat(value, width=100 - column, sort_dicts=False).replace("\n", "\n" + " " * column)

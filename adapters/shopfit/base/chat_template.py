"""Prompts in a base's own chat template: the recipe's prompt is the user's turn, the answer is the assistant's.

A template is rendered once, with marks where what is said would be, and taken apart at the marks. What is said is put
between the parts, so it is never seen by the template; and only the parts may hold control tokens. All of it is
tokenized in one go, as transformers does it, so that ids are those of `apply_chat_template`. An answer is tokenized as
it stands behind the template's words, but no token reaches from those into the answer: a model that answers has read
exactly the words.
"""

import hashlib
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from shopfit.base import chat_rendering
from shopfit.base.encode import PlainTokenizer
from shopfit.base.folder import reason
from shopfit.errors import BaseError, RecipeError
from shopfit.recipe.schema import Recipe

_MARKS = {role: f"ShopfitPuts{role.title()}Here7Qz" for role in ("system", "user", "assistant")}
_LEFT, _RIGHT = "\n \t", "\t \n"  # around a mark: whether a template takes white space off
_MARKED = re.compile(
    f"(?P<left>{_LEFT})?(?P<mark>{'|'.join(_MARKS.values())})(?P<right>{_RIGHT})?",
)
_PROBES = (
    'It Was  Nice:\n\n- 5/5, <b>"ok"</b> & {it} {{ is }} {% x %}\t%s \\n é 店 😀\nBye',
    "7",
    "  \n word " + "many words, " * 1000 + "\n\n",
)
"""Texts that a template must show as they are, for what is said to be what the base reads."""
_KEPT = 64  # templates that are rendered once
_PATIENCE = 300.0  # seconds of waiting for a template, however busy the machine is


@dataclass(frozen=True, slots=True)
class _Said:
    """A place in a template where something is said.

    Args:
        role: who says it.
        strips_left: whether white space before it is taken off.
        strips_right: whether white space behind it is.
    """

    role: str
    strips_left: bool
    strips_right: bool

    def show(self, text: str) -> str:
        text = text.lstrip() if self.strips_left else text
        return text.rstrip() if self.strips_right else text


@dataclass(frozen=True, slots=True)
class _Frame:
    """What a template writes around what is said.

    Args:
        parts: its words, and the places between them.
        lead: white space that it writes before an answer.
        tail: what it writes behind one.
    """

    parts: tuple[str | _Said, ...]
    lead: str
    tail: str

    def fill(self, said: Mapping[str, str]) -> str:
        """The whole text, with what each role says."""
        return "".join(part if isinstance(part, str) else part.show(said[part.role]) for part in self.parts)

    @property
    def content(self) -> list[Any]:
        """All of it, as JSON can hold it."""
        parts = [
            part if isinstance(part, str) else [part.role, part.strips_left, part.strips_right] for part in self.parts
        ]
        return [parts, self.lead, self.tail]


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """A base's chat template, ready for prompts. Made with `ChatFormat.of`.

    Args:
        parts: text around the user's turn; `encode` reads control tokens in it where the template wrote them.
        places: between the parts, one fewer than those.
        alone: tokens of a prompt in which the user says nothing.
        lead: white space that an answer begins with.
        end: the token that ends an answer.
        digest: SHA-256 (hex) over the template and what it writes.
    """

    parts: tuple[str, ...]
    places: tuple[_Said, ...]
    alone: tuple[int, ...]
    lead: str
    end: int
    digest: str

    @classmethod
    def of(cls, tokenizer: Any, system: str | None = None) -> "ChatFormat":
        """The chat format of a base.

        An answer begins with the white space that the template writes between prompt and answer, and ends with the
        control token that it writes behind what the assistant says; or, if it writes none there, with the tokenizer's
        end token.

        Args:
            tokenizer: of the base, a fast one.
            system: what the system says before the user; None for nothing, or what the template says by itself.

        Raises:
            RecipeError: if the base has no chat template, or that has no place for what the system says.
            BaseError: if the template cannot be rendered, or changes what is said.
        """
        source = getattr(tokenizer, "chat_template", None)
        if isinstance(source, Mapping):  # named ones, of which transformers takes this
            source = source.get("default")
        if not isinstance(source, str):
            raise RecipeError(
                f"prompt.format is chat, but the base {tokenizer.name_or_path} has no chat template (allowed: plain)",
                next_step="set prompt.format to plain, or take a base with a chat template",
            )
        frame = _frame_of(source, tokenizer, system is not None)
        plain = PlainTokenizer.of(tokenizer)
        parts, places = [""], []
        for part in frame.parts:
            if isinstance(part, str):
                parts[-1] += plain.mark(part)
            elif part.role == "system":
                parts[-1] += part.show(system or "")
            else:
                places.append(part)
                parts.append("")
        alone, end = plain.encode("".join(parts), special=False), plain.first_control(frame.tail)
        end = tokenizer.eos_token_id if end is None else end
        digest = hashlib.sha256(json.dumps([source, frame.content]).encode()).hexdigest()
        return cls(tuple(parts), tuple(places), alone, frame.lead, end, digest)

    def prompt(self, user: str) -> str:
        """The prompt in which the user says this, up to where the assistant speaks."""
        shown = [place.show(user) for place in self.places]
        return "".join(text for pair in zip(self.parts, [*shown, ""], strict=True) for text in pair)

    @property
    def before_answer(self) -> str:
        """What the template writes between what the user and the assistant say."""
        return self.parts[-1]


def chat_format(recipe: Recipe, tokenizer: Any, *, encoder: bool = False) -> ChatFormat | None:
    """The chat format of a recipe's prompts; None if they are plain.

    Args:
        recipe: its `prompt.format` and `prompt.system` say it.
        tokenizer: of the base.
        encoder: whether the base is an encoder.

    Raises:
        RecipeError: if the recipe's prompts cannot be in the base's chat template.
        BaseError: if the template cannot be used.
    """
    if recipe.prompt.format != "chat":
        return None
    if encoder:
        raise RecipeError(
            f"prompt.format is chat, but the base {tokenizer.name_or_path} is an encoder, which answers nobody "
            "(allowed: plain)",
            next_step="set prompt.format to plain, or take a decoder with a chat template, such as smollm2-135m",
        )
    return ChatFormat.of(tokenizer, recipe.prompt.system)


def chat_digest(recipe: Recipe, tokenizer: Any, *, encoder: bool = False) -> str:
    """What a bundle keeps of the template that its prompts are in; empty if they are plain. Raises as `chat_format`."""
    chat = chat_format(recipe, tokenizer, encoder=encoder)
    return "" if chat is None else chat.digest


def _frame_of(source: str, tokenizer: Any, system: bool) -> _Frame:
    name = tokenizer.name_or_path
    variables = json.dumps(tokenizer.special_tokens_map, default=str, sort_keys=True)
    with _RENDERING:
        frame = _frames(source, variables)[system]
    if isinstance(frame, _Frame):
        return frame
    if system and isinstance(_frames(source, variables)[False], _Frame):
        raise RecipeError(
            f"prompt.system cannot be said in the chat template of the base {name}: {frame}",
            next_step="leave prompt.system out, and write it at the beginning of prompt.template",
        )
    raise BaseError(
        f"the chat template of the base {name} cannot be used: {frame}",
        next_step="set prompt.format to plain, or correct the base's chat_template.jinja",
    )


_RENDERING = threading.Lock()


@lru_cache(maxsize=_KEPT)
def _frames(source: str, variables: str) -> Mapping[bool, _Frame | str]:
    """What a template writes without and with a system's words, or why it cannot be used so. Rendered once."""
    if len(source) > chat_rendering.LONGEST:
        return dict.fromkeys((False, True), f"it has {len(source)} characters (allowed: {chat_rendering.LONGEST})")
    asked: list[tuple[list[dict[str, str]], bool]] = []
    marked = {role: f"{_LEFT}{mark}{_RIGHT}" for role, mark in _MARKS.items()}
    for system in (False, True):
        asked.append((_messages(system, marked), True))
        asked.append(([*_messages(system, marked), {"role": "assistant", "content": marked["assistant"]}], False))
        asked += [(_messages(system, dict.fromkeys(_MARKS, probe)), True) for probe in _PROBES]
    rendered = _render({"source": source, "variables": json.loads(variables), "conversations": asked})
    if isinstance(rendered, str):
        return dict.fromkeys((False, True), rendered)
    half = len(rendered) // 2
    return {system: _taken_apart(rendered[half * system : half * (system + 1)], system) for system in (False, True)}


def _render(asked: Mapping[str, Any]) -> list[tuple[str, str]] | str:
    """The text of each conversation, or an error; or why the template cannot be rendered at all.

    Raises:
        BaseError: if that is not the template's doing.
    """
    command = [sys.executable, "-P", chat_rendering.__file__]  # -P: nothing is imported from the current folder
    try:
        done = subprocess.run(
            command, input=json.dumps(asked).encode(), capture_output=True, timeout=_PATIENCE, check=False
        )
        if done.returncode == -signal.SIGXCPU:
            return f"it does not end within {chat_rendering.SECONDS} seconds"
        if done.returncode == -signal.SIGSEGV:
            return "it is nested too deeply"
        if done.returncode:
            raise OSError(
                done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2] or f"it ended with {done.returncode}"
            )
        return [(text, reason(ValueError(error)) if error else "") for text, error in json.loads(done.stdout)]
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise BaseError(
            f"the process that renders chat templates failed: {reason(error)}",
            next_step="try again; if it fails again, check that transformers and jinja2 can be imported",
        ) from error


def _messages(system: bool, said: Mapping[str, str]) -> list[dict[str, str]]:
    roles = ["system", "user"] if system else ["user"]
    return [{"role": role, "content": said[role]} for role in roles]


def _taken_apart(rendered: Sequence[tuple[str, str]], system: bool) -> _Frame | str:
    (prompt, error), (answered, _), *probed = rendered
    if error:
        return error
    frame = _Frame(tuple(_parts(prompt)), *_around_answer(prompt, answered))
    shown = {part.role for part in frame.parts if isinstance(part, _Said)}
    if missing := {"user", *(["system"] if system else [])} - shown:
        return f"it does not show what the {' and the '.join(sorted(missing))} says, or changes it"
    for probe, (text, error) in zip(_PROBES, probed, strict=True):
        if error:
            return error
        if frame.fill(dict.fromkeys(_MARKS, probe)) != text:
            return "it changes what is said in it, by more than white space at the ends"
    return frame


def _parts(text: str) -> list[str | _Said]:
    """A rendered text as the template's words, and the places of the marks."""
    roles = {mark: role for role, mark in _MARKS.items()}
    parts: list[str | _Said] = []
    end = 0
    for found in _MARKED.finditer(text):
        parts += [text[end : found.start()], _Said(roles[found["mark"]], found["left"] is None, found["right"] is None)]
        end = found.end()
    return [*parts, text[end:]]


def _around_answer(prompt: str, answered: str) -> tuple[str, str]:
    """The white space between a prompt and its answer, and what stands behind that; nothing if it is not shown.

    Other words before an answer, such as an empty thought, are none that the model reads when it begins to answer.
    """
    places = [found for found in _MARKED.finditer(answered) if found["mark"] == _MARKS["assistant"]]
    if not places:
        return "", ""
    before = answered[: places[-1].start()]
    lead = before.removeprefix(prompt) if before.startswith(prompt) else ""
    return lead if lead.isspace() else "", answered[places[-1].end() :]

"""The section `prompt` of a recipe: how an example becomes text."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from shopfit.recipe.label_spelling import alike_labels
from shopfit.recipe.section import Section
from shopfit.recipe.suggestions import listed, shown
from shopfit.recipe.tasks import Task, TaskSpec
from shopfit.recipe.template import Template, placeholders


def _is_said(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise ValueError("must be text with a word in it, without NUL")
    return text


SystemText = Annotated[str, Field(max_length=20_000), AfterValidator(_is_said)]


class Prompt(Section):
    """How an example becomes text. `{field}` is replaced; a line whose fields are all missing is left out."""

    template: Template = Field(min_length=1, description="the prompt, with {field} placeholders")
    answer: Template = Field(
        "", description="how an answer is written: {label}, {score}, {output} or fields of the catalog such as {title}"
    )
    labels: dict[str, str] = Field(
        {}, description="choose, rate: the words that stand for a label, or for a level of the score, after the prompt"
    )
    format: Literal["plain", "chat"] = Field(
        "plain",
        description="plain: the prompt, and then the answer; chat: in the base's own chat template the prompt is what "
        "the user says, and the answer what the assistant does",
    )
    system: SystemText | None = Field(
        None, description="chat: what the system says first, as it stands, if the base's template has a place for it"
    )
    max_tokens: int = Field(
        512, ge=16, le=8192, description="tokens of the prompt at most; the longest field is shortened"
    )


def prompt_problems(task: Task, spec: TaskSpec, prompt: Prompt) -> list[str]:
    """What does not fit together in a prompt, or does not fit the task."""
    problems = []
    fields, answer, words = (
        placeholders(prompt.template),
        placeholders(prompt.answer),
        [text.strip() for text in prompt.labels.values()],
    )
    if not fields:
        problems.append("prompt.template: shows no field of an example (allowed: text with at least one {field})")
    problems += [
        f"prompt.template: {{{name}}} cannot be shown (allowed: every field but {', '.join(spec.hidden)})"
        for name in fields
        if name in spec.hidden
    ]
    wanted = spec.answer_field
    if not answer or (wanted and answer != [wanted]):
        allowed = f"text with {{{wanted}}}" if wanted else "text with fields of the catalog, such as {title}"
        problems.append(f"prompt.answer: {shown(prompt.answer)} does not fit task {task} (allowed: {allowed})")
    if len(set(words)) < len(words):
        problems.append("prompt.labels: two labels share the same words, so they cannot be told apart")
    problems += [
        f"prompt.labels: {listed(alike)} differ by case, spaces, width or Unicode form (allowed: one of them)"
        for alike in alike_labels(prompt.labels)
    ]
    if not all(words):
        problems.append("prompt.labels: a label has no words")
    if prompt.system is not None and prompt.format != "chat":
        problems.append(
            "prompt.system: a plain prompt has no system that speaks (allowed: prompt.format chat, or none)"
        )
    if len(words) == 1:
        problems.append("prompt.labels: one label leaves nothing to choose (allowed: none, or at least two)")
    return problems

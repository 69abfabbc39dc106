"""A bridge as a model of lm-evaluation-harness, so that others' tasks and metrics run on it.

    python -m raybridge.interface.harness --model raybridge --model_args trial=TRIAL --tasks gsm8k --batch_size auto

is `lm_eval` with this model registered; in Python, importing this module registers it. The harness is an optional dependency
(`raybridge[lm-eval]`).

Of each request's document one field is the question. It is read by the source, and where it stands in the text that the task
wrote, soft tokens stand: exemplars and instructions around it stay as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lm_eval.__main__ import cli_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from raybridge.data import Evaluator
from raybridge.evaluation.benchmarks import exemplars_of, load_evaluator
from raybridge.evaluation.setting import BATCH
from raybridge.interface.loading import load
from raybridge.interface.placed import Text, completed, scored
from raybridge.models.prompts import FIXED, Frame, frame

NEW_TOKENS = 256  # of an answer, where neither the task nor a benchmark says: the harness's own default
KNOWN = {"until", "max_gen_toks", "max_new_tokens", "do_sample", "temperature", "top_p", "top_k"}


Limits = tuple[int, tuple[str, ...]]


@register_model("raybridge")
class RaybridgeLM(LM):
    """A bridge that the harness asks.

    trial: as `raybridge.load` takes it. question: the field of a task's documents that is the question. frame: `task` for the
    text that the task wrote around it, or a file of evaluators/ for that benchmark's, exemplars and all: what
    `raybridge.evaluate --on` asks.
    """

    def __init__(
        self,
        trial: str,
        question: str = "question",
        frame: str = "task",
        results: str = "ray_results",
        device: str | None = None,
        batch_size: int | str | None = BATCH,
        **others: Any,
    ) -> None:
        super().__init__()
        if odd := sorted(name for name in others if name != "max_batch_size"):
            raise ValueError(f"--model_args: unknown {odd[0]!r}; valid: trial, question, frame, results, device, batch_size")
        self.bridge = load(trial, results=results, device=device)
        self.field = question
        self.batch = int(str(batch_size)) if str(batch_size).isdigit() else BATCH  # "auto" is what fits: decoding sees to that
        self.evaluator: Evaluator | None = None if frame == "task" else self._judge(frame)
        self._chat = False

    def _judge(self, name: str) -> Evaluator:
        own = self.bridge.evaluator
        return own if own.name == name else load_evaluator(name)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy answers. ValueError for a task that samples, or asks for what is not known here."""
        answers = [""] * len(requests)
        for rows, (max_new_tokens, until) in _alike([self._limits(request) for request in requests], self.batch):
            stop = (*until, *(self.evaluator.stop if self.evaluator else ()))
            texts = [self._text(requests[row]) for row in rows]
            done = completed(self.bridge, texts, max_new_tokens=max_new_tokens, stop=stop)
            for row, text in zip(rows, done, strict=True):
                answers[row] = text
                self.cache_hook.add_partial("generate_until", requests[row].args, text)
        return answers

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-likelihood, whether greedy) of each continuation; blanks at the end of a text go to its continuation."""
        found: list[tuple[float, bool]] = []
        for start in range(0, len(requests), self.batch):
            part = requests[start : start + self.batch]
            texts = [self._text(request) for request in part]
            moved = [text.whole[len(text.whole.rstrip(" ")) :] for text in texts]
            cut = [Text(whole=text.whole.rstrip(" "), question=text.question, chat=text.chat) for text in texts]
            rest = [blank + request.args[1] for blank, request in zip(moved, part, strict=True)]
            for request, one in zip(part, scored(self.bridge, cut, rest), strict=True):
                self.cache_hook.add_partial("loglikelihood", request.args, one)
                found.append(one)
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Refused: there is no question in a text that is scored as a whole."""
        raise ValueError("a bridge carries a question; a task that scores whole texts has none, and cannot run on it")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A task's turns as the target's own template writes them."""
        self._chat = True
        text = self.bridge.reader.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
            **FIXED,
        )
        return str(text)

    @property
    def tokenizer_name(self) -> str:
        """The target's, for the harness's cache."""
        return self.bridge.target.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The target's template, where one is asked for."""
        return self.bridge.reader.tokenizer.chat_template if chat_template else ""

    def _limits(self, request: Instance) -> Limits:
        """(new tokens at most, texts before which an answer ends) of a request, by its task's generation_kwargs."""
        told = request.args[1]
        if odd := sorted(told.keys() - KNOWN):
            raise ValueError(f"generation_kwargs: {odd[0]} is not known here; valid: {', '.join(sorted(KNOWN))}")
        if told.get("do_sample") or (told.get("temperature") or 0.0) > 0.0:
            raise ValueError(
                "generation_kwargs: this task samples, and a bridge is decoded greedily; --gen_kwargs do_sample=false"
            )
        until = told.get("until") or ()
        stop = (until,) if isinstance(until, str) else tuple(until)
        most = self.evaluator.max_new_tokens if self.evaluator else NEW_TOKENS
        return int(told.get("max_gen_toks", told.get("max_new_tokens", most))), stop

    def _text(self, request: Instance) -> Text:
        """A request's text and the question in it."""
        if self.field not in request.doc:
            raise ValueError(
                f"task {request.task_name}: its documents have no field {self.field!r}; question= names one of "
                f"{', '.join(map(str, request.doc))}"
            )
        question = str(request.doc[self.field])
        if self.evaluator is None:
            return Text(whole=request.args[0], question=question, chat=self._chat)
        own = self._frame(self.evaluator)
        return Text(whole=own.whole(question), question=question, chat=own.chat)

    def _frame(self, evaluator: Evaluator) -> Frame:
        return frame(self.bridge.reader, evaluator, exemplars=exemplars_of(evaluator))


def _alike(limits: Sequence[Limits], size: int) -> Iterator[tuple[list[int], Limits]]:
    """Rows that end alike, some at a time."""
    for one in dict.fromkeys(limits):
        rows = [row for row, other in enumerate(limits) if other == one]
        for start in range(0, len(rows), size):
            yield rows[start : start + size], one


if __name__ == "__main__":
    cli_evaluate()

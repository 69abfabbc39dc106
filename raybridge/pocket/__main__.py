"""Make the pocket pair: `python -m raybridge.pocket [--out DIR] [--steps N]`.

Each model is trained from scratch on generated problems of the train split: most documents are a question and its worked
answer, some are a question and its repetition, so that both models can also be asked to repeat. Killed and started
again, it goes on from its last checkpoint. Minutes on a GPU, hours on a CPU.
"""

from __future__ import annotations

import random
import shutil
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from evaluators.pocket import Pocket
from raybridge.models import lm as lms
from raybridge.models import names
from raybridge.models.decode import greedy
from raybridge.models.pieces import pad
from raybridge.models.prompts import REPEAT_CUE, frame
from raybridge.pocket.models import Member, model, tokenizer
from raybridge.pocket.problems import drafts
from raybridge.results import files
from raybridge.statistics import wilson
from raybridge.training import checkpoint
from raybridge.translators.weights import copy_of

BEFORE, AFTER = Pocket.before, Pocket.after
REPEATED = 0.2  # share of documents that repeat their question
DOCUMENTS = 400_000
BATCH = 512
WARMUP = 200
PEAK = 3e-3
SAVE_EVERY = 500
WEIGHTS = "model.safetensors"  # written last: a folder that has it is whole
TRAINING = "training"  # in a model's folder while it is made: the plan and the last checkpoint
PLAN = "plan.json"

console = Console()


def documents(count: int, *, seed: int) -> list[tuple[str, str]]:
    """(prompt, continuation) of generated train problems."""
    rng = random.Random(seed)
    made = islice(drafts("train", seed=seed + 1), count)
    return [
        (f"{BEFORE} {d.question}{REPEAT_CUE}", f" {d.question}")
        if rng.random() < REPEATED
        else (f"{BEFORE} {d.question}{AFTER}", f" {d.rationale}")
        for d in made
    ]


def token_rows(tok: PreTrainedTokenizerFast, texts: list[tuple[str, str]]) -> list[list[int]]:
    """BOS, prompt, continuation, end."""
    rows = tok([prompt + continuation for prompt, continuation in texts]).input_ids
    return [[*row, tok.eos_token_id] for row in rows]


def lm_loss(lm: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Next-token loss over every token of a document."""
    logits = lm(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    kept = mask[:, 1:].flatten()
    return (losses * kept).sum() / kept.sum()


def begin(folder: Path, plan: dict[str, int]) -> None:
    """Write down what a model is made with. What was begun otherwise is not gone on with."""
    path = folder / TRAINING / PLAN
    if not path.exists():
        files.write_json(path, plan)
    elif (begun := files.read_json(path)) != plan:
        raise ValueError(f"{folder} was begun with {begun}, not {plan}; give the same again, or another --out")


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints of a model in the making, ascending; a kill may leave two."""
    return sorted((folder / TRAINING).glob("step_*"))


def train(member: Member, folder: Path, *, steps: int, device: torch.device, seed: int) -> None:
    """Train one model and save it in Hugging Face form."""
    begin(folder, {"steps": steps, "seed": seed})
    texts = documents(min(DOCUMENTS, steps * BATCH), seed=seed)
    tok = tokenizer(member, [prompt + continuation for prompt, continuation in texts[:20_000]])
    rows = token_rows(tok, texts)
    torch.manual_seed(seed)
    lm = model(member, tok).to(device)
    optimizer = torch.optim.AdamW(lm.parameters(), lr=PEAK, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    start = 0
    if kept := checkpoints(folder):
        start = checkpoint.restore(kept[-1], lm, optimizer)["step"]
    for step in range(start, steps):
        share = min((step + 1) / WARMUP, (steps - step) / (steps - min(WARMUP, steps - 1)))
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min(share, 1.0)
        picked = torch.randint(len(rows), (BATCH,), generator=torch.Generator().manual_seed(seed * 1_000_003 + step))
        ids, mask = pad([rows[i] for i in picked.tolist()], pad_id=tok.eos_token_id, side="right", device=device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            loss = lm_loss(lm, ids, mask)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % SAVE_EVERY == 0 and step + 1 < steps:
            console.print(f"{member} step {step + 1} of {steps}: loss {loss.item():.4f}")
            save_state(folder, lm, optimizer, step + 1)
    save_model(folder, lm, tok)


def save_state(folder: Path, lm: PreTrainedModel, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write what a killed run needs; the new checkpoint is whole before the old one goes."""
    old = checkpoints(folder)
    aside = folder / TRAINING / ".new"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, content in checkpoint.pack(copy_of(lm), optimizer, {"step": step}).items():
        (aside / name).write_bytes(content)
    aside.rename(folder / TRAINING / f"step_{step:06d}")
    for path in old:
        shutil.rmtree(path)


def save_model(folder: Path, lm: PreTrainedModel, tok: PreTrainedTokenizerFast) -> None:
    """Write a finished model, aside and then in place, its weights last."""
    aside = folder / TRAINING / "finished"
    lm.to(torch.float16).save_pretrained(aside)
    tok.save_pretrained(aside)
    for path in sorted(aside.iterdir(), key=lambda path: path.name == WEIGHTS):
        path.replace(folder / path.name)


def graded(lm: lms.FrozenLM, *, batch: int = 200) -> list[bool]:
    """Which problems of the generated test split are answered right (strict), the question given as text."""
    evaluator = Pocket()
    problems, around = evaluator.problems("test"), frame(lm, evaluator)
    right: list[bool] = []
    for start in range(0, len(problems), batch):
        part = problems[start : start + batch]
        pieces = [lm.text_piece(around.prompts([problem.question for problem in part]))]
        done = greedy(lm, pieces, max_new_tokens=evaluator.max_new_tokens, stop=evaluator.stop)
        right += [bool(evaluator.grade(p, c.text)["strict"]) for p, c in zip(part, done, strict=True)]
    return right


def entry(folder: Path, known: dict[str, Any], *, device: torch.device) -> dict[str, Any]:
    """A model's line of the card: measured now, and what it was made with, which the folder or the old card knows."""
    trained = lms.load(str(folder), device=device, dtype=torch.float32)
    right = graded(trained)
    low, high = wilson(sum(right), len(right))
    plan = folder / TRAINING / PLAN
    made_with = files.read_json(plan) if plan.exists() else known
    return {
        "strict_accuracy_on_generated_test": sum(right) / len(right),
        "low": round(low, 4),
        "high": round(high, 4),
        "generated_test_problems": len(right),
        "parameters": trained.model.num_parameters(),
        **{name: made_with[name] for name in ("steps", "seed") if name in made_with},
    }


def table(card: dict[str, dict[str, Any]]) -> Table:
    """The card for a terminal."""
    shown = Table("model", "parameters", "strict accuracy", "95% interval", title="on held-out generated problems, as text")
    for member, line in card.items():
        accuracy = f"{line['strict_accuracy_on_generated_test']:.3f} of {line['generated_test_problems']}"
        shown.add_row(member, f"{line['parameters']:,}", accuracy, f"{line['low']:.3f} to {line['high']:.3f}")
    return shown


def main(
    out: Annotated[
        Path, typer.Option(help="where the two models go; one that is there already is only measured")
    ] = names.POCKET,
    steps: Annotated[int, typer.Option(help="optimizer steps a model")] = 6000,
    seed: int = 7,
) -> None:
    """Train the pocket pair and write what it reaches on held-out generated problems into card.json."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    path = out / "card.json"
    card: dict[str, dict[str, Any]] = files.read_json(path) if path.exists() else {}
    for member in get_args(Member):
        folder = out / member
        if (folder / WEIGHTS).exists():
            console.print(f"{member}: {folder} is trained already and is only measured; another --out trains a new one")
        else:
            try:
                train(member, folder, steps=steps, device=device, seed=seed)
            except ValueError as error:
                raise typer.BadParameter(str(error)) from error
        card[member] = entry(folder, card.get(member, {}), device=device)
        files.write_json(path, card)
        shutil.rmtree(folder / TRAINING, ignore_errors=True)
    console.print(table(card))


if __name__ == "__main__":
    typer.run(main)

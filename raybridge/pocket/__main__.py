"""Make the pocket pair: `python -m raybridge.pocket [--out DIR] [--steps N]`.

Each model is trained from scratch on generated problems of the train split: most documents are a question and its worked
answer, some are a question and its repetition, so that both models can also be asked to repeat. Killed and started
again, it goes on from its last checkpoint. Minutes on a GPU, hours on a CPU.
"""

from __future__ import annotations

import json
import random
import shutil
from itertools import islice
from pathlib import Path
from typing import Annotated, get_args

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from torch import Tensor

from evaluators.pocket import Pocket
from raybridge import checkpoint
from raybridge import lm as lms
from raybridge.decode import greedy
from raybridge.losses.next_token import REPEAT_CUE
from raybridge.pocket.models import Member, model, tokenizer
from raybridge.pocket.problems import drafts
from raybridge.prompts import frame

BEFORE, AFTER = Pocket.before, Pocket.after
REPEATED = 0.2  # share of documents that repeat their question
DOCUMENTS = 400_000
BATCH = 512
WARMUP = 200
PEAK = 3e-3
SAVE_EVERY = 500

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


def token_rows(tok, texts: list[tuple[str, str]]) -> list[list[int]]:
    """BOS, prompt, continuation, end."""
    rows = tok([prompt + continuation for prompt, continuation in texts]).input_ids
    return [[*row, tok.eos_token_id] for row in rows]


def lm_loss(lm, ids: Tensor, mask: Tensor) -> Tensor:
    """Next-token loss over every token of a document."""
    logits = lm(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    kept = mask[:, 1:].flatten()
    return (losses * kept).sum() / kept.sum()


def train(member: Member, folder: Path, *, steps: int, device: torch.device, seed: int) -> None:
    """Train one model and save it in Hugging Face form."""
    texts = documents(min(DOCUMENTS, steps * BATCH), seed=seed)
    tok = tokenizer(member, [prompt + continuation for prompt, continuation in texts[:20_000]])
    rows = token_rows(tok, texts)
    torch.manual_seed(seed)
    lm = model(member, tok).to(device)
    optimizer = torch.optim.AdamW(lm.parameters(), lr=PEAK, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    state_folder = folder / "training"
    start = 0
    if state_folder.exists():
        start = checkpoint.restore(state_folder, lm, optimizer)["step"]
    for step in range(start, steps):
        share = min((step + 1) / WARMUP, (steps - step) / (steps - min(WARMUP, steps - 1)))
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min(share, 1.0)
        picked = torch.randint(len(rows), (BATCH,), generator=torch.Generator().manual_seed(seed * 1_000_003 + step))
        ids, mask = lms.pad([rows[i] for i in picked.tolist()], pad_id=tok.eos_token_id, side="right", device=device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            loss = lm_loss(lm, ids, mask)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % SAVE_EVERY == 0 and step + 1 < steps:
            console.print(f"{member} step {step + 1} of {steps}: loss {loss.item():.4f}")
            save_state(state_folder, lm, optimizer, step + 1)
    folder.mkdir(parents=True, exist_ok=True)
    lm.to(torch.float16).save_pretrained(folder)
    tok.save_pretrained(folder)


def save_state(folder: Path, lm, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write what a killed run needs, aside and then in place."""
    aside = folder.with_name(folder.name + ".new")
    aside.mkdir(parents=True, exist_ok=True)
    for name, content in checkpoint.pack(checkpoint.copy_of(lm), optimizer, {"step": step}).items():
        (aside / name).write_bytes(content)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def accuracy(lm: lms.FrozenLM, *, batch: int = 200) -> float:
    """Strict accuracy on the generated test split, the question given as text."""
    evaluator = Pocket()
    problems, around = evaluator.problems("test"), frame(lm, evaluator)
    right = 0.0
    for start in range(0, len(problems), batch):
        part = problems[start : start + batch]
        pieces = [lm.text_piece([around.question(p.question) for p in part]), lm.text_piece([around.after] * len(part))]
        done = greedy(lm, pieces, max_new_tokens=evaluator.max_new_tokens, stop=evaluator.stop, shared=around.before)
        right += sum(evaluator.grade(p, c.text)["strict"] for p, c in zip(part, done, strict=True))
    return right / len(problems)


def main(
    out: Annotated[Path, typer.Option(help="where the two models go")] = lms.POCKET,
    steps: Annotated[int, typer.Option(help="optimizer steps a model")] = 6000,
    seed: int = 7,
) -> None:
    """Train the pocket pair and write what it reaches on held-out generated problems into card.json."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    card: dict[str, dict[str, float]] = {}
    for member in get_args(Member):
        folder = out / member
        if not (folder / "model.safetensors").exists():
            train(member, folder, steps=steps, device=device, seed=seed)
        trained = lms.load(str(folder), device=device, dtype=torch.float32)
        card[member] = {
            "strict_accuracy_on_generated_test": accuracy(trained),
            "parameters": trained.model.num_parameters(),
            "steps": steps,
            "seed": seed,
        }
        console.print(member, card[member])
    for member in get_args(Member):
        shutil.rmtree(out / member / "training", ignore_errors=True)
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    typer.run(main)

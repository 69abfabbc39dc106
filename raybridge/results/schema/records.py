"""Keys of the JSON files: what a trial was, logged and came to, and what a sweep asked for."""

from __future__ import annotations

from dataclasses import replace

from raybridge.results.schema.column import Column, File, Kind

WORKLOAD = "workloads that train no translator"
TRANSLATOR = "trials of a translator"
MEMBERS = ("source", "target")
PARTS = ("device", "precision")
FACTS: dict[Kind, tuple[str, ...]] = {
    "list": ("readings", "stop"),
    "text": ("instruction", "before", "after", "exemplars", "source_prompt", "target_prompt", "dev", "test"),
    "number": ("max_new_tokens",),
}
INNER = (
    *(Column(name=f"config.{name}", kind="text", means=f"hub id or place of the {name}", only=TRANSLATOR) for name in MEMBERS),
    Column(name="config.translator", kind="object", null=False, means="what is trained", only=TRANSLATOR),
    Column(name="config.translator.soft_tokens", needed=True, null=True, means="K", unit="tokens", only=TRANSLATOR),
    Column(name="config.evaluator", kind="object", null=False, means="the benchmark", only=TRANSLATOR),
    Column(name="config.translator.class", kind="text", null=False, means="its module and name", only=TRANSLATOR),
    Column(name="config.evaluator.class", kind="text", needed=True, means="its module and name", only=TRANSLATOR),
    Column(name="config.losses", kind="list", null=False, means="the terms, each with its weight", only=TRANSLATOR),
    Column(name="config.stopping", kind="object", null=False, means="the rule that ends it", only=TRANSLATOR),
    Column(name="config.steps", means="how many at most"),
    *(
        Column(name=f"config.{split}_problems", means="how many it is evaluated on", only=TRANSLATOR)
        for split in ("dev", "test")
    ),
    *(
        Column(name=f"contents.{name}", kind="object", needed=True, means="digests of that model", only=TRANSLATOR)
        for name in MEMBERS
    ),
    Column(name="contents.others", kind="list", needed=True, means="digests of further targets", only=TRANSLATOR),
    Column(name="contents.benchmark", kind="object", needed=True, means="digests of what is asked", only=TRANSLATOR),
    Column(name="contents.arms", kind="list", needed=True, means="arms of a version above 1", only=TRANSLATOR),
    *(Column(name=f"contents.{part}", kind="text", needed=True, means="what computes", only=TRANSLATOR) for part in PARTS),
    Column(name="contents.answering", needed=True, means="version of what is common to all arms", only=TRANSLATOR),
    *(
        Column(name=f"contents.benchmark.{fact}", kind=kind, needed=True, means="see results.contents", only=TRANSLATOR)
        for kind, facts in FACTS.items()
        for fact in facts
    ),
)

TRIAL = (
    Column(name="name", kind="text", needed=True, means="what the sweep that ran it called it"),
    Column(
        name="fingerprint",
        kind="text",
        needed=True,
        means="SHA-256 of the config without its name, and of the contents: its identity",
    ),
    Column(
        name="config",
        kind="object",
        needed=True,
        means="the resolved config, nested; classes are told by module, name and version",
    ),
    Column(
        name="contents",
        kind="object",
        means="digests of models, tokenizers, prompts, problems and texts, and the device; without it, of an earlier identity",
        only=TRANSLATOR,
    ),
    *INNER,
)
PROVENANCE = (
    Column(name="commit", kind="object", means="id of the commit, and whether tracked files differed from it"),
    Column(name="versions", kind="object", means="versions of Python and of packages"),
    Column(
        name="models", kind="object", means="digests of each model's weights, tokenizer and chat template, and the hub's commit"
    ),
    Column(
        name="data",
        kind="text or object",
        means="RAYBRIDGE_DATA where it names a folder of rows; before there was `datasets`, what stands there now",
    ),
    Column(
        name="datasets",
        kind="object",
        means="by dataset of the hub, of which rows were read: its commit, or `unknown` where the hub did not tell it",
        only="rows of the hub",
    ),
    Column(name="hardware", kind="object", means="machine, cores, GPUs"),
)
PROMPT = Column(name="prompt", kind="object", means="hashes of the prompt's template and the ids of its exemplars")

METRICS = (
    Column(name="step", needed=True, means="optimizer steps done"),
    Column(name="loss", means="the weighted sum of all terms, over all workers"),
    Column(name="learning_rate", means="of this step"),
    Column(name="gradient_norm", means="of all terms together, before clipping"),
    Column(name="tokens_per_second", means="tokens trained on, padding left out", unit="tokens / second"),
    Column(name="mfu", means="share of the hardware's peak FLOP/s; missing where the peak is not known"),
    Column(name="soft_rms", means="median RMS of the soft tokens"),
    Column(name="soft_rank", means="effective rank of the soft tokens (Roy and Vetterli 2007)"),
    Column(name="seconds", means="training so far, earlier launches included", unit="seconds"),
    Column(name="loss/*", means="value of a term, before weighting"),
    Column(name="weight/*", means="its weight"),
    Column(name="gradient/*", means="norm of its gradient, before weighting; 0 moves nothing"),
)
RESULT = (
    Column(name="name", kind="text", means="as in trial.json"),
    Column(name="fingerprint", kind="text", means="as in trial.json"),
    Column(name="steps", needed=True, means="optimizer steps done"),
    Column(name="stopped", kind="text", means="finished, patience or degradation"),
    Column(name="reason", kind="text", means="the same in words"),
    Column(
        name="arm",
        kind="text",
        means="which it was selected, stopped and is ranked by: what its translator is trained for",
        only="trials since it is written; before, bridged",
    ),
    Column(name="peak", means="highest dev accuracy by the first reading; it ranks nothing"),
    Column(name="peak_step", means="its step"),
    Column(name="best_step", means="the step whose checkpoint was kept and tested"),
    Column(name="best", means="dev accuracy at best_step: what ranks the trial", only="trials since it is written"),
    Column(name="final", means="dev accuracy at the last evaluation"),
    Column(name="degradation", means="peak minus final"),
    Column(name="shuffled_dev_at_peak", means="accuracy of the arm's control at the peak"),
    Column(name="test.*.*.accuracy", means="by arm and reading: test accuracy at best_step"),
    Column(name="test.*.*.n", means="problems"),
    Column(name="test.*.*.low", means="lower end of its 95% interval, as in evals.parquet"),
    Column(name="test.*.*.high", means="upper end"),
    Column(name="test.*.*.nll", means="negative log-likelihood of the worked answers", unit="nats a token"),
    Column(name="gpus", means="GPUs that its workers trained on, of those of the machine", only="trials since it is written"),
    Column(name="train_seconds", means="training, all launches", unit="seconds"),
    Column(name="eval_wait_seconds", means="of these, waiting for evaluations", unit="seconds"),
    Column(name="headline.name", kind="text", means="what the experiment is judged by", only=WORKLOAD),
    Column(name="headline.value", means="what it came to", only=WORKLOAD),
    Column(name="imported", kind="truth", means="true", only="runs imported from elsewhere"),
    Column(
        name="folder", kind="text", means="the last names of the path that it stood in", only="runs imported from elsewhere"
    ),
    Column(name="notes", kind="list", means="what the import found, a sentence each", only="runs imported from elsewhere"),
)
TIMING = (
    Column(
        name="started",
        needed=True,
        means="when its driver began, or when the devices it waited for were free",
        unit="seconds since 1970",
    ),
    Column(name="first_step", means="when its first step began", unit="seconds since 1970"),
    Column(name="trained", means="when its workers had ended", unit="seconds since 1970", only="trials since it is written"),
    Column(name="ended", means="when it was complete", unit="seconds since 1970", only="complete trials"),
)
KNOWN_BY_TRAINING = ("steps", "stopped", "reason", "gpus", "train_seconds", "eval_wait_seconds")
TRAINED = tuple(column for column in RESULT if column.name in KNOWN_BY_TRAINING)
FAILURE = (
    Column(name="sentence", kind="text", needed=True, means="why the launch ended without a result"),
    Column(name="traceback", kind="text", means="what a developer wants to see"),
)
STATE = (
    Column(name="step", means="optimizer steps done"),
    Column(name="seconds", means="training so far", unit="seconds"),
    Column(name="ended", kind="object", means="why training ended, where it has"),
)
EVALUATED = (
    Column(name="trial", kind="text", means="fingerprint of the translator's trial; null without one"),
    Column(name="at", kind="text", means="another target that answered; null for the trial's own"),
    Column(name="step", means="the translator's step; null without one"),
    Column(name="source", kind="text", means="model that reads the question"),
    Column(name="target", kind="text", means="model that answers"),
    Column(name="evaluator", kind="object", means="the resolved benchmark"),
    Column(name="split", kind="text", means="dev or test"),
    Column(name="problems", means="how many were asked"),
    Column(name="arms", kind="list", means="names of the arms that were computed"),
    Column(name="decoding", kind="object", means="the resolved hardening; null for plain greedy decoding"),
    PROMPT,
    Column(name="device", kind="text", means="what computed it"),
    *PROVENANCE,
)
PLAN = (
    Column(name="scale", kind="text", means="pocket, small or full"),
    Column(
        name="smoke",
        kind="truth",
        means="whether its trials were cut to a few steps; these stand in a folder smoke/ of their own",
        only="sweeps launched since smoke runs have a folder of their own",
    ),
    Column(name="trials", kind="list", means="the trials that the sweep asks for, in order"),
    Column(name="trials.name", kind="text", needed=True, means="of each trial that the sweep asks for: what it calls it"),
    Column(name="trials.fingerprint", kind="text", needed=True, means="its identity"),
)
FOUND = (
    Column(name="sweep", kind="text", means="name of the sweep"),
    Column(name="missing", kind="list", means="names of trials without a result"),
    Column(name="trials.name", kind="text", means="of each complete trial: what the sweep calls it"),
    Column(name="trials.fingerprint", kind="text", means="its identity"),
    Column(name="trials.config", kind="object", means="as in trial.json"),
    Column(name="trials.result", kind="object", means="as in result.json"),
    Column(name="trials.arm", kind="text", means="which it was selected, stopped and is ranked by"),
    Column(
        name="trials.compression",
        means="question tokens over soft tokens; at or below 1, or beside the question as text, nothing is compressed",
    ),
    Column(name="trials.gap_recovered", means="(floor NLL - the arm's NLL) / (floor NLL - text NLL); null where not measured"),
    Column(name="trials.gap_recovered_shuffled", means="the same of the arm's control"),
    Column(name="trials.reconstruction_gap_recovered", means="the same of the question's NLL"),
    Column(name="trials.reconstruction_gap_recovered_shuffled", means="the same of the arm's control"),
    Column(name="trials.test", kind="object", means="by arm: its row of evals.parquet on test by the first reading"),
    Column(name="trials.missing", kind="list", means="arms without a translator that were not computed"),
    Column(
        name="trials.transfer", kind="object", means="the arm against its control by accuracy, p Holm-corrected over the sweep"
    ),
    Column(name="trials.transfer_nll", kind="object", means="the same by the NLL of the answer"),
)
TOLD = (
    Column(name="run", kind="text", needed=True, means="what the tracker calls the trial's run"),
    Column(name="steps.*", means="by series, the last step that it has", unit="steps"),
)
MACHINE = (
    Column(name="device", kind="text", means="name of the GPU, or cpu"),
    Column(name="gib", means="its memory", unit="GiB", only="a GPU"),
    Column(name="cards", means="of such GPUs, how many a worker lays its models over", only="workers with several"),
    Column(
        name="source",
        kind="text",
        means="as in trial.json, like target, translator, losses and evaluator: what a pass's memory depends on",
    ),
    Column(name="target", kind="text", means="see source"),
    Column(name="translator", kind="object", means="see source"),
    Column(name="losses", kind="list", means="see source"),
    Column(name="evaluator", kind="object", means="see source"),
    *(Column(name=name, means="see source", only="trials that have it") for name in ("mixture", "own_answers", "exemplars")),
    Column(name="share", means="problems and texts of a batch that one worker has"),
    Column(name="problems", needed=True, means="of them, how many one pass of the target takes at most"),
    Column(
        name="recomputed",
        kind="truth",
        needed=True,
        means="whether the target's layers are computed again in the backward pass",
    ),
)

RECORDS = (
    File(path="trials/*/trial.json", holds="What the trial is; written first", columns=TRIAL),
    File(
        path="trials/*/provenance.json",
        holds="Where its numbers come from; written with trial.json",
        columns=(*PROVENANCE, replace(PROMPT, only=TRANSLATOR)),
    ),
    File(path="trials/*/metrics.jsonl", holds="A line for each logged step; the last of a step counts", columns=METRICS),
    File(
        path="trials/*/checkpoints/step_*/state.json",
        holds="What a resumed trial needs beside translator.safetensors and optimizer.safetensors; a finished trial has "
        "the latter no more",
        columns=STATE,
    ),
    File(path="trials/*/result.json", holds="What the trial came to; its presence means complete", columns=RESULT),
    File(
        path="trials/*/trained.json",
        holds="What its training came to; gone once result.json says it",
        columns=TRAINED,
        only="trials whose test split is being read",
    ),
    File(path="trials/*/timing.json", holds="When the launch that completed the trial did what", columns=TIMING),
    File(path="trials/*/failure.json", holds="Why the last launch failed", columns=FAILURE, only="a launch that failed"),
    File(path="sweeps/*/plan.json", holds="What the sweep asks for", columns=PLAN),
    File(path="sweeps/*/ablation_results.json", holds="What the summary says, as numbers", columns=FOUND),
    File(
        path="machines/*.json",
        holds="How much of a worker's share of a batch a machine takes at once; deleted, it is found again",
        columns=MACHINE,
        only="shares that did not fit as a whole",
    ),
    File(path="evaluations.jsonl", holds="A line for each evaluation outside a sweep", columns=EVALUATED),
    File(
        path="trackers/*/*/told.json",
        holds="trackers/<tracker>/<trial>/: what a tracker has been told; deleted, it is told again",
        columns=TOLD,
        only="sweeps launched with `--log-to`",
    ),
    File(
        path="logs/*.log",
        holds="logs/<time>-<command>-<process>.log: what was typed, each line that was printed with its time, how it ended",
        columns=(),
        only="commands that found or made a folder of results",
    ),
)

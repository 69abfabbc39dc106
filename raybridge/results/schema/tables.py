"""Columns of the parquet tables: sample rows, evaluations, baselines, and what soft tokens look like from inside."""

from __future__ import annotations

from raybridge.results.schema.column import Column, File, names

ATTENTION_BINS = 16  # equal parts of a question, by which attention is counted

EVALUATED = "arms that `evaluate` timed"
TRANSLATED = "arms of a translator that `evaluate` timed"
ELSEWHERE = "runs imported from elsewhere"
SOFT = "arms with soft tokens"
WEIGHED = "rows since the answer's bytes are written"

# What identifies a row of evals.parquet.
IDENTITY = (
    Column(name="step", needed=True, means="optimizer steps of the translator; 0 for arms without one"),
    Column(name="evaluator", kind="text", needed=True, means="benchmark, by the name of its file"),
    Column(name="split", kind="text", needed=True, means="dev or test"),
    Column(
        name="arm",
        kind="text",
        needed=True,
        means="label of the arm: its name, how its decoding was hardened, which other target answered",
    ),
    Column(name="reading", kind="text", needed=True, means="how answers were read from completions; the first one decides"),
)
LENGTH = (
    Column(name="shots", means="worked exemplars before the question's place, in every arm alike", unit="exemplars"),
    Column(name="prompt_tokens", means="text of the prompt, exemplars included; soft tokens are not in it", unit="tokens"),
    Column(name="question_tokens", means="the question as the answering model tokenizes it", unit="tokens"),
    Column(name="generated_tokens", means="the completion", unit="tokens"),
)
WIRE = tuple(
    Column(name=f"wire_bytes_{form}", means=f"the same in {form}, scales and header counted", unit="bytes", only=SOFT)
    for form in ("fp16", "int8", "int6", "int4")
)
COST = (
    Column(name="prompt_bytes", means="text of the prompt as UTF-8", unit="bytes"),
    Column(name="question_bytes", means="the question as UTF-8", unit="bytes"),
    Column(name="kv_bytes", means="the answering model's KV cache of the prompt, from its config", unit="bytes"),
    Column(
        name="question_kv_bytes",
        means="of these, what stands in the question's place: its tokens, soft tokens or both; savings are of these alone",
        unit="bytes",
    ),
    Column(name="wire_bytes", means="soft tokens as they travelled, scales and header counted", unit="bytes", only=SOFT),
    *WIRE,
    Column(
        name="latency_1",
        means="question to 32 tokens of answer, alone, the source's prefill included; a median of repeats, as all times are",
        unit="seconds",
        only=EVALUATED,
    ),
    Column(name="latency_batched", means="the same for one of a batch of up to 32", unit="seconds", only=EVALUATED),
    Column(name="prefill_source", means="of latency_1, the source's reading of the question", unit="seconds", only=TRANSLATED),
    Column(name="prefill_translator", means="of latency_1, the translator", unit="seconds", only=TRANSLATED),
    Column(
        name="prefill_target",
        means="of latency_1, the answering model's reading of the prompt, to the first token",
        unit="seconds",
        only=EVALUATED,
    ),
    Column(name="seconds_a_token", means="of latency_1, each token behind the first", unit="seconds", only=EVALUATED),
    Column(
        name="peak_bytes",
        means="memory of that batch: on a GPU that of the arm's own models, or the process's so far",
        unit="bytes",
        only=EVALUATED,
    ),
)
TIMES = ("latency_1", "prefill_source", "prefill_translator", "prefill_target", "seconds_a_token")  # of problems one by one
TEXT = (
    Column(name="completion", kind="text", needed=True, means="what the model wrote, up to a stop string"),
    Column(name="prompt_hash", kind="text", means="SHA-256 of the prompt's token ids, shortened"),
)

SAMPLE = (
    Column(name="problem", kind="text", needed=True, means="id of the problem"),
    Column(name="arm", kind="text", needed=True, means="label of the arm"),
    TEXT[1],
    Column(name="template_hash", kind="text", means="hash of what stands around the question, exemplars included"),
    TEXT[0],
    LENGTH[3],
    Column(name="truncated", kind="truth", means="whether it reached the token limit without ending"),
    Column(name="no_stop", kind="truth", means="whether the model wrote no end token"),
    Column(name="first_token", means="id of the first token of the completion"),
    Column(name="first_token_correct", kind="truth", means="whether the likeliest first token is that of the worked answer"),
    Column(name="nll", means="negative log-likelihood of the worked answer behind the same prompt, summed", unit="nats"),
    Column(name="nll_tokens", means="tokens of that answer", unit="tokens"),
    Column(name="answer_bytes", means="that answer as UTF-8", unit="bytes", only=WEIGHED),
    Column(
        name="reconstruction_nll",
        means="the same of the question, repeated after a cue that no exemplars stand before: of its first 256 tokens",
        unit="nats",
    ),
    Column(name="reconstruction_tokens", means="tokens that were asked for", unit="tokens"),
    *LENGTH[:3],
    Column(name="soft_tokens", means="soft tokens that the answering model held", unit="tokens"),
    *COST,
    Column(name="seconds", means="decoding, the row's share of its batch", unit="seconds"),
    Column(name="answer_*", kind="text", needed=True, means="the answer that a reading found; missing where it found none"),
    Column(name="score_*", needed=True, means="score by a reading, 0 to 1"),
    Column(name="chosen", kind="text", means="whose answer it took", only="arms that choose among answers"),
    Column(name="joint_*", means="mean log-likelihood of a model's answer under both", unit="nats", only="arm `joint`"),
    Column(
        name="identity",
        kind="text",
        means="digest of what the row depends on, the problems left out",
        only="rows that `evaluate` kept",
    ),
    Column(name="answer_recorded", kind="text", means="the answer that the run itself had read", only=ELSEWHERE),
    Column(name="gold_agrees", kind="truth", means="whether its gold was the one of its gold text", only=ELSEWHERE),
    Column(name="official", kind="truth", means="whether the problem is one of the official test split", only=ELSEWHERE),
)

COUNT = (
    Column(name="n", needed=True, means="problems"),
    Column(name="correct", needed=True, means="sum of the scores"),
    Column(name="accuracy", needed=True, means="correct / n"),
    Column(
        name="low",
        needed=True,
        means="lower end of its 95% interval: Wilson's, or of scores between 0 and 1 a bootstrap over problems",
    ),
    Column(name="high", needed=True, means="upper end"),
    Column(name="invalid", needed=True, means="completions in which the reading found no answer", unit="problems"),
    Column(name="truncated", needed=True, means="completions that reached the token limit", unit="problems"),
)
LIKELIHOOD = (
    Column(name="nll", needed=True, means="negative log-likelihood of the worked answers", unit="nats a token"),
    Column(name="nll_tokens", needed=True, means="tokens of the worked answers", unit="tokens"),
)
BITS = Column(
    name="bits_per_byte",
    means="negative log-likelihood of the worked answers: of models with other tokenizers, whose nats a token do not compare",
    unit="bits a byte",
    only=WEIGHED,
)
SPENT = (
    Column(name="soft_tokens", needed=True, means="soft tokens that the answering model held", unit="tokens"),
    Column(name="seconds", needed=True, means="decoding of all problems", unit="seconds"),
)
EVALUATION = (
    *IDENTITY,
    *COUNT,
    *LIKELIHOOD,
    BITS,
    *(Column(name=one.name, means=f"{one.means}: mean", unit=one.unit) for one in LENGTH),
    *SPENT,
    Column(name="unique_answers", means="share of different answers"),
    Column(name="reconstruction_nll", means="the same of the questions, repeated after a cue", unit="nats a token"),
    Column(name="first_token_entropy", means="of the first tokens over the problems", unit="bits"),
    Column(name="first_token_correct_rate", means="share of likeliest first tokens that are the worked answer's"),
    Column(name="no_stop_rate", means="share of completions without an end token"),
    *(
        Column(
            name=one.name,
            means=f"{one.means}: {'median' if one.name in TIMES else 'mean'} where measured",
            unit=one.unit,
            only=one.only,
        )
        for one in COST
    ),
    *(
        Column(
            name=f"{name}_{end}",
            means=f"{which} end of that median's 95% interval over the problems; missing below six of them",
            unit="seconds",
            only=TRANSLATED if name in ("prefill_source", "prefill_translator") else EVALUATED,
        )
        for name in TIMES
        for end, which in (("low", "lower"), ("high", "upper"))
    ),
    Column(name="ran_on", means="completions that run on into a new question", unit="problems", only=ELSEWHERE),
    Column(name="recorded_as", kind="text", means="what the run called the evaluation", only=ELSEWHERE),
    Column(name="imported", kind="truth", means="true", only=ELSEWHERE),
)

CONDITIONED = (
    Column(
        name="kind",
        kind="text",
        needed=True,
        means="attention: share of a query's attention on a part of the question; singular_value: of all soft tokens about "
        "their mean, largest first; nearest, nearest_p10, nearest_p90: cosine of a soft token to the nearest of the target's "
        "embeddings, its mean and two percentiles over the questions; nearest_random: the same for a random direction",
    ),
    Column(
        name="index", needed=True, means=f"query * {ATTENTION_BINS} + part of the question for attention; else which of them"
    ),
    Column(name="value", needed=True, means="the measure"),
    Column(name="n", needed=True, means="questions that it is of"),
)

TABLES = (
    File(path="trials/*/evals.parquet", holds="A row for each evaluation, arm and reading", columns=EVALUATION),
    File(
        path="trials/*/samples/*/*/step_*.parquet",
        holds="samples/<evaluator>/<split>/: a row for each problem and arm of an evaluation",
        columns=SAMPLE,
    ),
    File(
        path="trials/*/samples/*/conditioning.parquet",
        holds="What the soft tokens of the best checkpoint look like from inside, on dev problems",
        columns=CONDITIONED,
    ),
    File(
        path="baselines/*.parquet",
        holds="Sample rows of an arm without a translator, once for each identity and choice of problems",
        columns=SAMPLE,
    ),
)

EVAL_KEYS = list(names(IDENTITY))
EVAL_COLUMNS = [*EVAL_KEYS, *names(COUNT), *names(LIKELIHOOD), "prompt_tokens", "soft_tokens", "generated_tokens", "seconds"]
CONDITIONING = list(names(CONDITIONED))
TEXTS = names(TEXT)  # columns of samples that take the room
LENGTHS = names(LENGTH)
COSTS = names(COST)
MEANS = (  # columns of evaluations that are averaged over seeds
    *("accuracy", "low", "high", "invalid", "truncated", "nll", "bits_per_byte", "reconstruction_nll"),
    *LENGTHS,
    *names(SPENT),
    *COSTS,
)

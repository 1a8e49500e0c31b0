"""Every key there is, with its default. Other configs start from this one and differ from it."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0  # of the initial weights and of the noise
    config.budget = 0.0  # training FLOPs, in the counter below; 0: `steps` says how long
    config.budget_counter = "exact"  # exact | six_nonembedding | six_total | six_attention
    config.steps = 1000  # optimiser steps, when budget is 0
    config.start_from = ""  # folder of a run with the same network, whose weights this one begins with

    config.objective = ConfigDict()
    config.objective.name = "masked"  # a key of mdlm_jax.objectives.OBJECTIVES, FILE.py:FUNCTION or module:function
    # linear | cosine | cosine_squared | polynomial | square_root | logarithmic | geometric
    config.objective.schedule = "linear"  # how much is noised at each time
    config.objective.power = 2.0  # of the polynomial schedule
    config.objective.epsilon_convention = "none"  # none (the exact bound) | smdm | mdlm | md4
    config.objective.epsilon = 1e-3  # of that convention
    config.objective.independent_times = False  # masked: times by themselves instead of stratified over the batch
    config.objective.complementary = False  # masked, masked_plain: a second view hides what the first shows
    config.objective.mask_rate = 0.15  # masked_lm: share of hidden tokens
    config.objective.num_steps = 0  # T of a discrete time; d3pm: 0 is 1000; masked: 0 is continuous time
    config.objective.process = "absorbing"  # d3pm, sedd, tauldr: a key of PROCESSES (gaussian_matrix: d3pm)
    config.objective.mask_share = 0.5  # of the hybrid process: share of the noise that masks
    config.objective.uniform_share = 0.2  # gidd: uniform noise at the middle of the schedule
    config.objective.gamma = 1.0  # gidd: how fast the uniform noise comes and goes
    config.objective.auxiliary = 0.0  # d3pm: lambda, the weight of an added cross-entropy
    config.objective.score = "raw"  # sedd: raw | scaled (absorbing only) | denoiser
    config.objective.embedding_width = 16  # gaussian: of the vectors that are noised
    config.objective.form = "denoising"  # csm: denoising | implicit
    config.objective.drop_prompt = 0.0  # share of rows in training whose prompt is hidden: classifier-free guidance
    config.objective.block_size = 0  # autoregressive over blocks of so many tokens, the objective inside; 0: no blocks
    config.objective.block_low = 0.0  # blocks: noise levels in training are drawn from here ..
    config.objective.block_high = 1.0  # .. to here
    config.objective.block_shared_level = False  # one noise level for all blocks of a row
    config.objective.block_shift = False  # a position predicts the token after the one it reads, as in ar

    config.data = ConfigDict()
    config.data.source = "stdlib"  # stdlib | markov | text | tfds | tokens
    # text: globs, by commas; tfds: dataset name; tokens: folder; markov: vocab=16,concentration=0.3
    config.data.path = ""  # what of that source, as above
    config.data.validation_path = ""  # text: globs of held-out files; empty: the last 5% is held out
    config.data.field = "text"  # the field that holds the text, in .jsonl, .parquet and tfds
    config.data.tokenizer = "bytes"  # bytes | a tokenizers .json | a folder with GPT-2's vocabulary and merges
    config.data.sequence_length = 64  # L
    config.data.extra_token = False  # rows of L + 1 tokens (SMDM's 2048 + 1)
    config.data.prompt_tokens = 0  # so many first tokens of a row are given: neither noised nor scored
    config.data.keep_documents = False  # attention stays inside a document; else documents are joined
    config.data.random_length_rate = 0.0  # share of rows cut to a uniform length (SMDM: 0.01)
    config.data.unique_tokens = 0  # tokens in one epoch; 0: all there are
    config.data.epochs = 0  # at most this many; 0: as many as the steps need
    config.data.seed = 0  # of the order of rows

    config.model = ConfigDict()
    config.model.size = "131k"  # a name of the ladder (scaling/ladder.py); empty: the five numbers after the next
    config.model.vocab_size = 0  # V; 0: as many as the tokenizer has; more: the rest is never seen (padding)
    config.model.layers = 0  # transformer blocks
    config.model.width = 0  # d, of the residual stream
    config.model.heads = 0  # attention heads; they divide the width
    config.model.key_value_heads = 0  # fewer than heads: grouped-query attention
    config.model.mlp_width = 0  # hidden width of the MLP
    config.model.mlp = "swiglu"  # swiglu | gelu
    config.model.norm = "rmsnorm"  # rmsnorm | layernorm
    config.model.norm_epsilon = 1e-5  # added under the root
    config.model.rope_base = 1e4  # wavelength scale of the rotary positions
    config.model.qk_norm = False  # norm of queries and keys in each head
    config.model.attention_bias = False  # on queries, keys, values and their output
    config.model.mlp_bias = False  # on the matrices of the MLP
    config.model.head_bias = False  # on the logits
    config.model.tied_head = False  # the head is the embedding transposed
    config.model.time_conditioning = False  # adaLN from the noise level
    config.model.time_width = 128  # of its embedding
    config.model.dropout = 0.0  # after attention and after the MLP

    config.optim = ConfigDict()
    config.optim.lr = 1e-2  # peak learning rate
    config.optim.decay = "cosine"  # cosine | wsd | constant
    config.optim.final = 0.1  # learning rate at the end over the peak
    config.optim.warmup_share = 0.01  # of all steps
    config.optim.warmup_min = 10  # steps
    config.optim.weight_decay = 0.1  # decoupled, on matrices
    config.optim.decay_everything = False  # decay norms and embeddings too, as SMDM does
    config.optim.beta_1 = 0.9  # Adam's first moment
    config.optim.beta_2 = 0.95  # Adam's second moment
    config.optim.epsilon = 1e-8  # Adam's denominator
    config.optim.clip = 1.0  # global norm of the gradient
    config.optim.ema = 0.0  # decay of the weight average; 0: none
    config.optim.on_nonfinite = "stop"  # stop | skip | rewind: what a loss does that is NaN, Inf or a spike
    config.optim.spike_deviations = 0.0  # a spike: so many above the mean of 1,000 losses (OLMo 2: 7); 0: none is
    config.optim.rewind_steps = 100  # rewind: at least so many back (PaLM), to a checkpoint, then on with other data
    config.optim.max_rewinds = 3  # rewind: how often, before the run fails

    config.train = ConfigDict()
    config.train.batch_size = 64  # sequences in a step, over all devices
    config.train.microbatches = 1  # gradient accumulation inside the step
    config.train.runner = "jit"  # jit (sharded over the mesh) | pmap | shard_map
    config.train.mesh_data = 1  # copies of the parameters; the product of the four is the number of devices
    config.train.mesh_fsdp = -1  # devices the parameters are split over; -1: all that are left
    config.train.mesh_sequence = 1  # devices the positions of a row are split over
    config.train.mesh_tensor = 1  # devices the heads and the MLP are split over
    config.train.compute_dtype = "float32"  # float32 | bfloat16 (weights stay float32)
    config.train.float8 = False  # products of the layers in 8 bits, scaled: GPUs since Hopper and Ada
    config.train.scan_layers = False  # one compiled block: right on accelerators, slower on a CPU
    config.train.remat = "none"  # none | dots | full
    # einsum | blocked (linear memory) | library (cuDNN's on a GPU in bfloat16) | splash (TPU)
    config.train.attention = "einsum"  # how attention is computed; what it computes is the same
    config.train.loss_chunk = 128  # positions of a view whose logits exist at once
    config.train.scored_only = False  # logits of scored positions only: about half of a masked view
    config.train.log_every = 50  # steps
    config.train.validate_every = 0  # steps; 0: at the end only
    config.train.checkpoint_every = 500  # steps; 0: at the end only
    config.train.loggers = ""  # by commas: tensorboard, wandb; metrics.jsonl is always written

    config.eval = ConfigDict()
    config.eval.sequences = 256  # held-out rows
    config.eval.draws = 4  # views of each row, for objectives that draw noise
    config.eval.batch_size = 64  # sequences at once
    return config.lock()

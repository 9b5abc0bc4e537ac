"""A forward pass of transformers' ALBERT, BERT or GPT-2 on PyTorch, eager and compiled.

    python benches/peers/inference.py albert-base --batch 1 --length 384 --rounds 7 --threads 2

prints one JSON object: a list of names and the seconds of each pass.
"""

import argparse
import json
import time

import torch
from transformers import (
    AlbertConfig,
    AlbertForQuestionAnswering,
    BertConfig,
    BertForQuestionAnswering,
    GPT2Config,
    GPT2LMHeadModel,
)

MODELS = {
    "albert-base": lambda: AlbertForQuestionAnswering(AlbertConfig(
        hidden_size=768, num_attention_heads=12, intermediate_size=3072, num_hidden_layers=12)),
    "bert-base": lambda: BertForQuestionAnswering(BertConfig()),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(use_cache=False)),
}


def seconds(model, arguments, vocabulary):
    times = []
    for round in range(arguments.rounds + 2):
        tokens = torch.randint(0, vocabulary, (arguments.batch, arguments.length))
        began = time.perf_counter()
        model(input_ids=tokens)
        if round >= 2:
            times.append(time.perf_counter() - began)
    return times


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--length", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = MODELS[arguments.model]().eval()
    vocabulary = model.config.vocab_size
    found = []
    with torch.inference_mode():
        found.append({"name": "PyTorch", "seconds": seconds(model, arguments, vocabulary)})
        try:
            compiled = torch.compile(model)
            times = seconds(compiled, arguments, vocabulary)
            found.append({"name": "PyTorch, compiled", "seconds": times})
        except Exception as error:  # No compiler: told, and left out.
            found.append({"name": f"PyTorch, compiled: {type(error).__name__}", "seconds": []})
    print(json.dumps(found))


if __name__ == "__main__":
    main()

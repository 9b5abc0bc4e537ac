"""Writes the folder squad: small tokenizers, and what Hugging Face's libraries and the official scorers make with them.

    pip install torch==2.15.0 transformers==5.24.0 tokenizers==0.23.3 numpy==2.4.6
    git clone https://github.com/huggingface/evaluate
    python squad.py evaluate/metrics utils_qa.py

`evaluate/metrics` holds the official scripts of SQuAD v1.1 and v2.0 (squad/compute_score.py and
squad_v2/compute_score.py, as of a7dd338). `utils_qa.py` is examples/pytorch/question-answering/utils_qa.py of
transformers 4. Neither is copied here. Python is 3.11, of Unicode 14, whose `sum` adds floats one by one.

wordpiece, unigram, bytes   model folders with tokenizers of BERT's, ALBERT's and GPT-2's kind, trained on TEXTS
encodings.json              texts and pairs as tokens
windows.json                questions and contexts as run_qa.py's features; null where transformers raises
answers.json                logits, and what `postprocess_qa_predictions` makes of them
v1.json, v2.json            files of questions in SQuAD's own form, with odd answers
scores.json                 predictions for both, and the official scripts' scores
unicode.json                what Python holds for lower case, words and white space

Offsets are in characters. The tests are tests/suite/{tokenizers,squad_answers,squad_scores}.rs.
"""

import importlib.util
import json
import random
import re
import sys
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AlbertTokenizer, BertTokenizer, GPT2Tokenizer

HERE = Path(__file__).parent / "squad"

TEXTS = [
    "The lighthouse at Ushant was lit for the first time in 1700, after Vauban had drawn its plans. It burned coal "
    "and wood, and a keeper carried both up 192 steps. In 1835 the fire gave way to a lens of Fresnel's, which "
    "threw the light of one lamp 34 kilometres over the sea; ships that had passed the island by guesswork now "
    "set their clocks by its turn. The keepers of the nineteenth century wrote a diary, and the diary says more "
    "about bread and weather than about wrecks.",
    "Café owners in Besançon say that the river Doubs — it bends round the old town like the letter Ω — froze in "
    "1963 and that people skated from the Île aux Moineaux to the citadel. “Nobody had seen such ice,” "
    "Mme. Lefèvre told the paper, “and nobody has since.” The naïve coöperation of 40 bakers 🥐🥖 fed the skaters; "
    "a sign in 東京 style said 氷, ice. Its photographs, e\u0301tonnants, are kept in box no. 7½ of the archive.",
]
QUESTIONS = [
    ("When was the lighthouse lit for the first time?", 0),
    ("  \t\x1fWho wrote the diary, and what does the diary say more about?", 0),
    ("Où le Doubs a-t-il gelé en 1963 ? 氷", 1),
    ("", 1),
]
PIECES = [
    "The keeper's lamp", "", "   ", "\u00a0tabs\tand\nlines ", "[CLS] is a word [SEP] <pad> <|endoftext|>", "e\u0301te\u0301",
    "naïve 🥐🥖 coöperation", "東京 氷", "ﬁne ½ Ⅷ", "don't—stop… 3,141.59", "Unseen: ж ☃ \u200b\u0000",
]


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(name, data):
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    (HERE / name).write_text(text.replace("\u007f", "\\u007f") + "\n", encoding="utf-8")


# Tokenizers


def trained(tokenizer, trainer):
    tokenizer.train_from_iterator(TEXTS, trainer)
    return json.loads(tokenizer.to_str())["model"]


def wordpiece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    model = trained(tokenizer, trainers.WordPieceTrainer(vocab_size=320, special_tokens=special, show_progress=False))
    return BertTokenizer(vocab=model["vocab"], model_max_length=512)


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.UnigramTrainer(vocab_size=260, special_tokens=special, unk_token="<unk>", show_progress=False)
    model = trained(tokenizer, trainer)
    return AlbertTokenizer(vocab=[tuple(token) for token in model["vocab"]])


def bytes_():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model = trained(tokenizer, trainer)
    return GPT2Tokenizer(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]])


def tokenizers():
    """The tokenizers as they come back from the folders that the tests read. Training breaks ties at random, so what
    is there is kept; to train again, remove the folders."""
    kinds = {
        "wordpiece": (wordpiece, BertTokenizer),
        "unigram": (unigram, AlbertTokenizer),
        "bytes": (bytes_, GPT2Tokenizer),
    }
    read = {}
    for name, (make, kind) in kinds.items():
        if not (HERE / name).exists():
            make().save_pretrained(HERE / name)
            compact(HERE / name / "tokenizer.json")
        read[name] = kind.from_pretrained(HERE / name)
    return read


def compact(path):
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def encoding(tokenizer, *texts):
    # As lists, since transformers takes a pair with an empty second text for one text.
    found = tokenizer(
        *([text] for text in texts),
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_token_type_ids=True,
    )
    ids = found["input_ids"][0]
    return {
        "texts": texts,
        "ids": ids,
        "type_ids": found["token_type_ids"][0],
        "offsets": found["offset_mapping"][0],
        "special": found["special_tokens_mask"][0],
        "sequences": found.sequence_ids(0),
        "decoded": tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False),
    }


def encodings(read):
    texts = [(text,) for text in PIECES + TEXTS] + list(zip(PIECES, PIECES[1:] + PIECES[:1]))
    roles = ["cls", "sep", "pad", "bos", "eos", "unk", "mask"]
    return {
        name: {
            "special": {role: getattr(tokenizer, f"{role}_token_id") for role in roles},
            "vocabulary_size": max(tokenizer.get_vocab().values()) + 1,
            "encodings": [encoding(tokenizer, *text) for text in texts],
        }
        for name, tokenizer in read.items()
    }


# Windows and answers


def features(tokenizer, question, context, max_length, stride):
    """prepare_validation_features of run_qa.py; None where it raises (or the Rust below it panics)."""
    try:
        found = tokenizer(
            [question.lstrip()],
            [context],
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_token_type_ids=True,
        )
    except BaseException as error:  # a Rust panic is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return None
    return [
        {
            "ids": ids,
            "type_ids": found["token_type_ids"][window],
            "offsets": [
                offset if sequence == 1 else None
                for offset, sequence in zip(found["offset_mapping"][window], found.sequence_ids(window))
            ],
        }
        for window, ids in enumerate(found["input_ids"])
    ]


LENGTHS = [(384, 128), (64, 16), (48, 0), (40, 20), (16, 8), (5, 1)]


def windows(read):
    cases = []
    for name, tokenizer in read.items():
        for question, text in QUESTIONS + [("why?", None)]:
            for max_length, stride in LENGTHS:
                context = "" if text is None else TEXTS[text][:150]
                made = features(tokenizer, question, context, max_length, stride)
                lengths = {"max_length": max_length, "stride": stride}
                cases.append({"tokenizer": name, "question": question, "context": context, **lengths, "windows": made})
    return cases


def logits(generator, length):
    """Distinct multiples of 1/256, exact in float32; sums of two may be equal. The file holds them times 256."""
    return (generator.permutation(4096)[:length].astype(np.float32) - 2048) / 256


SETTINGS = [(20, 30, None), (20, 30, 0.0), (5, 4, None), (3, 1, -2.0), (1, 30, None), (1, 30, 1.5), (9, 2, 9.0), (9, 9, -40.0)]


def answers(read, postprocess):
    generator, cases = np.random.default_rng(19), []
    for name, tokenizer in read.items():
        for number, (n_best, max_length, threshold) in enumerate(SETTINGS):
            question, text = QUESTIONS[number % 3]
            made = features(tokenizer, question, TEXTS[text], 64, 16)
            starts, ends = ([logits(generator, len(window["ids"])) for window in made] for _ in range(2))
            case = {"tokenizer": name, "question": question, "context": TEXTS[text], "max_length": 64, "stride": 16}
            case |= {"starts": times_256(starts), "ends": times_256(ends)}
            case |= {"n_best": n_best, "max_answer_length": max_length, "null_threshold": threshold}
            cases.append(case | answer(postprocess, made, (starts, ends), TEXTS[text], case))
    return cases


def times_256(rows):
    return [(row * 256).astype(int).tolist() for row in rows]


def answer(postprocess, made, scores, context, case):
    examples = [{"id": "q", "context": context}]

    class Examples(list):
        def __getitem__(self, key):
            return [example[key] for example in self] if isinstance(key, str) else super().__getitem__(key)

    with tempfile.TemporaryDirectory() as folder:
        found = postprocess(
            Examples(examples),
            [{"example_id": "q", "offset_mapping": window["offsets"]} for window in made],
            scores,
            version_2_with_negative=case["null_threshold"] is not None,
            n_best_size=case["n_best"],
            max_answer_length=case["max_answer_length"],
            null_score_diff_threshold=case["null_threshold"] or 0.0,
            output_dir=folder,
        )
        best = json.loads((Path(folder) / "nbest_predictions.json").read_text())["q"]
        odds = Path(folder) / "null_odds.json"
        difference = json.loads(odds.read_text())["q"] if odds.exists() else None
    # The word that stands in where no answer is possible.
    nothing = best[0]["text"] == "empty" and best[0]["start_logit"] == best[0]["end_logit"] == 0.0
    best = [[it["text"], it["start_logit"], it["end_logit"], it["probability"]] for it in best]
    return {"text": found["q"], "best": best, "null_difference": difference, "nothing": nothing}


# Scores

ANSWERED = [
    ("the Tower", ["The tower.", "tower"]), ("tower", ["A tower of an island"]), ("", ["nothing"]), ("the", ["A"]),
    ("an", ["an apple"]), ("The The", ["the"]), ("U.S.A.", ["USA", "U S A"]), ("1,000", ["1000"]), ("1.5", ["15"]),
    ("a b c a", ["a b a c c"]), ("x x x y", ["x y y"]), ("x y", ["x", "y z", "w x y"]), ("naïve", ["naive"]),
    ("nai\u0308ve a\u0308 a", ["naïve ä"]), ("ÉCOLE", ["école"]), ("ΟΔΟΣ ΣΑΣ", ["οδος σας"]), ("İstanbul", ["i̇stanbul"]),
    ("Straße", ["STRASSE"]), ("“quoted”", ["quoted"]), ("don't", ["dont", "do not"]), ("well-known", ["wellknown"]),
    ("snake_a_case", ["snake case", "snakeacase"]), ("a_b", ["ab"]), ("an—hour", ["hour", "—hour"]), ("the½", ["½"]),
    ("\u00a0x\u3000y\x1fz\u2028", ["x y z"]), ("x\u200by", ["x y", "xy"]), ("東京の塔", ["東京 の 塔", "東京の塔"]),
    ("$5%", ["5"]), ("...", ["!!!", "x"]), ("1963", ["in 1963", "1963", "1963 AD"]), ("Ⅷ the ⓐ", ["ⅷ ⓐ"]),
    ("a\u0301n", ["n"]), ("A.", ["a"]), ("the\nend\t", ["end"]), ("x y z", ["z y x"]), ("", ["the", "a"]),
]
IMPOSSIBLE = ["", "something", "the", "...", "  "]
WORDS = "a an the A The x x y Y z. 'x' x-y 7 7.0 ½ é e\u0301 ä Ω ς ΑΣ 東京 _ _a_ \x1c \u00a0 \u200b 🥐 — “the” ٣ ª ⓐ ा".split(" ")


def random_answers(generator):
    def text():
        return generator.choice(["", " ", "  "]).join(generator.choices(WORDS, k=generator.randrange(6)))

    return [(text(), [text() for _ in range(generator.randint(1, 3))]) for _ in range(200)]


def squad_file(name, version, answered, impossible):
    """The questions in SQuAD's form, two paragraphs of one article and the rest in another."""
    questions = [{"question": "?", "id": f"q{index}", "answers": answer} for index, answer in enumerate(
        [[{"text": text, "answer_start": 0} for text in golds] for _, golds in answered] + [[]] * impossible
    )]
    if version == "v2.0":
        questions = [question | {"is_impossible": not question["answers"]} for question in questions]
    parts = [questions[:7], questions[7:20], questions[20:]]
    paragraphs = [{"context": TEXTS[index % 2], "qas": part} for index, part in enumerate(parts)]
    articles = [{"title": "Ushant", "paragraphs": paragraphs[:2]}, {"title": "Doubs", "paragraphs": paragraphs[2:]}]
    write(name, {"version": version, "data": articles})
    return articles


def columns(articles):
    """The same articles as the metric's copy of the v2.0 script takes them: answers by columns."""
    return [
        {"paragraphs": [
            {"qas": [question | {"answers": {"text": [it["text"] for it in question["answers"]]}}
                     for question in paragraph["qas"]]}
            for paragraph in article["paragraphs"]
        ]}
        for article in articles
    ]


def scores_v1(official):
    answered = ANSWERED + random_answers(random.Random(1))
    articles = squad_file("v1.json", "1.1", answered, 0)
    predictions = {f"q{index}": prediction for index, (prediction, _) in enumerate(answered)}
    fewer = {name: text for index, (name, text) in enumerate(predictions.items()) if index % 3}
    return {
        "predictions": predictions,
        "normalized": {name: official.normalize_answer(text) for name, text in predictions.items()},
        "f1": {f"q{index}": [official.f1_score(prediction, gold) for gold in golds]
               for index, (prediction, golds) in enumerate(answered)},
        "all": official.compute_score(articles, predictions),
        "without_every_third": official.compute_score(articles, fewer),
    }


def scores_v2(official):
    answered, generator = ANSWERED + random_answers(random.Random(2)), random.Random(3)
    articles = columns(squad_file("v2.json", "v2.0", answered, len(IMPOSSIBLE)))
    texts = [prediction for prediction, _ in answered] + IMPOSSIBLE
    predictions = {f"q{index}": text for index, text in enumerate(texts)}
    probabilities = {name: generator.randrange(64) / 64 for name in predictions}
    thresholds = [1.0, 0.5, 0.25, -1.0]
    return {
        "predictions": predictions,
        "probabilities": probabilities,
        "f1": {f"q{index}": [official.compute_f1(gold, prediction) for gold in golds]
               for index, (prediction, golds) in enumerate(answered)},
        "plain": evaluation(official, articles, predictions, None, 1.0),
        "thresholds": [
            {"threshold": threshold, **evaluation(official, articles, predictions, probabilities, threshold)}
            for threshold in thresholds
        ],
    }


def evaluation(official, articles, predictions, probabilities, threshold):
    """`main` of the v2.0 script without its files."""
    has_answer = official.make_qid_to_has_ans(articles)
    exact, f1 = official.get_raw_scores(articles, predictions)
    given = probabilities or dict.fromkeys(predictions, 0.0)
    kept = [official.apply_no_ans_threshold(scores, given, has_answer, threshold) for scores in (exact, f1)]
    result = official.make_eval_dict(*kept)
    for prefix, wanted in (("HasAns", True), ("NoAns", False)):
        part = [name for name, has in has_answer.items() if has == wanted]
        official.merge_eval(result, official.make_eval_dict(*kept, qid_list=part), prefix)
    if probabilities:
        official.find_all_best_thresh(result, predictions, exact, f1, probabilities, has_answer)
    return result


# Unicode


def ranges(holds):
    """The code points that `holds` is true of, as [first, last] pairs."""
    found = []
    for code in range(sys.maxunicode + 1):
        if 0xD800 <= code < 0xE000 or not holds(chr(code)):
            continue
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return found


def unicode_tables():
    changed = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).lower() != chr(code)]
    return {
        "upper": " ".join(changed),
        "lower": " ".join(changed).lower(),
        "space": ranges(str.isspace),
        "word": ranges(lambda character: re.match(r"\w", character)),
        "unassigned": ranges(lambda character: unicodedata.category(character) == "Cn"),
    }


def main():
    metrics, utils_qa = map(Path, sys.argv[1:])
    HERE.mkdir(exist_ok=True)
    read = tokenizers()
    write("encodings.json", encodings(read))
    write("windows.json", windows(read))
    write("answers.json", answers(read, load(utils_qa, "utils_qa").postprocess_qa_predictions))
    v1, v2 = (load(metrics / name / "compute_score.py", name) for name in ("squad", "squad_v2"))
    write("scores.json", {"v1": scores_v1(v1), "v2": scores_v2(v2)})
    write("unicode.json", unicode_tables())


main()

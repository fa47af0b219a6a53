"""Writes a CLIP ViT-B/32 with random weights for infinity: `PYTHON infinity_model.py FOLDER`.

Run by the interpreter of infinity's own environment; imports nothing of this project.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor
from transformers.models.clip import CLIPTokenizerFast  # type: ignore[attr-defined]

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    words = {word: i for i, word in enumerate(["<|startoftext|>", "<|endoftext|>", "a", "t</w>", "at</w>"])}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\na t</w>\n")
    tokenizer = CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))
    torch.manual_seed(0)
    CLIPModel(CLIPConfig()).save_pretrained(folder)
    processor = CLIPProcessor(CLIPImageProcessor(), tokenizer)  # type: ignore[no-untyped-call]
    processor.save_pretrained(folder)

"""The pocket pair: two tiny language models, and the generated problems that they were trained on."""

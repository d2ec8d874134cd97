"""Adapt a network to unlabelled images: segmentation, or a classifier (configs/visda17.yaml).

    accelerate launch tools/train_image.py CONFIG [VARIANT] [key=value ...] [--resume]

CONFIG: a file of configs/, for example configs/gta2cs.yaml. VARIANT: one or more files on top of it, for example
configs/variants/mic.yaml. key=value: any key, for example
training.steps=100, method=self_training or blda.tau=0.2. The folder RUN/METHOD gets config.yaml, checkpoints,
metrics.jsonl, result.json and TensorBoard files; watch it with `tensorboard --logdir runs`.
"""

import kinds
from command import run_training

if __name__ == "__main__":
    run_training(__doc__, kinds.of_images)

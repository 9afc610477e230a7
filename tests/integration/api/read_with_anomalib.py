"""Read an unpacked `mvtec` export with anomalib's own folder data module; prints how many it found where."""

import json
import sys

from anomalib.data import Folder

data = Folder(
    name="exported",
    root=sys.argv[1],
    normal_dir="train/good",
    abnormal_dir="test/suspect",
    num_workers=0,
    train_batch_size=4,
    eval_batch_size=4,
)
data.setup()
train = sum(len(batch.image) for batch in data.train_dataloader())
test = [int(label) for batch in data.test_dataloader() for label in batch.gt_label]
val = [int(label) for batch in data.val_dataloader() for label in batch.gt_label]
held = test + val
sys.stdout.write(json.dumps({"train": train, "normal": held.count(0), "suspect": held.count(1)}))

"""Read an unpacked `fiftyone` export with FiftyOne's own importer; prints each image's label by its id.

The importer is what `Dataset.from_dir` runs; going on to a dataset would only ask for a MongoDB server.
"""

import json
import sys

from fiftyone.utils.data import FiftyOneImageClassificationDatasetImporter

with FiftyOneImageClassificationDatasetImporter(sys.argv[1], compute_metadata=True) as importer:
    labels = {label.image_id: label.label for _path, _metadata, label in importer}
sys.stdout.write(json.dumps(labels))

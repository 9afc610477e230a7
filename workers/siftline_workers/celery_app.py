"""What production starts: `celery -A siftline_workers.celery_app worker --pool=threads -c 1`."""

from siftline.settings import Settings
from siftline_workers.tasks import make_worker_app

app = make_worker_app(Settings())

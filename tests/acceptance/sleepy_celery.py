"""`celery -A tests.acceptance.sleepy_celery`: production's worker, with jobs that sleep."""

from siftline.settings import Settings
from siftline_workers.tasks import make_worker_app
from tests.acceptance.sleepy_child import COMMAND

app = make_worker_app(Settings(), COMMAND)

"""How every process of ours logs: one line per event on standard error."""

import logging


def set_up_logging(level: int = logging.INFO) -> None:
    """Call once, in the program's main; libraries and tests never do."""
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s", force=True
    )
    # FAISS tells at every start which of its builds it did not find, ONNX of every node it did not simplify.
    for talkative in ("faiss.loader", "onnx_ir", "onnxscript"):
        logging.getLogger(talkative).setLevel(logging.WARNING)

"""LitServe with the network of a bundle, for `serve_load`: run by the Python of an environment of its own.

PYTHON serve_load_litserve.py MODEL.onnx
"""

import io
import socket
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime
from fastapi import Request
from PIL import Image


class Classifier(litserve.LitAPI):  # type: ignore[misc]
    """As LitServe's guide has it: a form's file in, a label and its probability out."""

    def setup(self, device: str) -> None:
        """Open the network."""
        self.session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
        self.side = self.session.get_inputs()[0].shape[1]

    def decode_request(self, request: Request):
        """Pixels of the file in a form."""
        with Image.open(io.BytesIO(request["content"].file.read())) as image:
            image.draft("RGB", (self.side, self.side))
            return np.asarray(image.convert("RGB").resize((self.side, self.side)))

    def batch(self, inputs: Any) -> Any:
        """Pictures that run together."""
        return np.stack(inputs)

    def predict(self, pictures: Any) -> Any:
        """Logits."""
        return self.session.run(["logits"], {"pictures": pictures})[0]

    def unbatch(self, output: Any) -> Any:
        """One by one again."""
        return list(output)

    def encode_response(self, logits: Any) -> Any:
        """The best class, and its probability."""
        p = np.exp(logits - logits.max())
        return {"label": int(p.argmax()), "certainty": float(p.max() / p.sum())}


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    api = Classifier(max_batch_size=8, batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    print(f"listens at {port}", flush=True)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")

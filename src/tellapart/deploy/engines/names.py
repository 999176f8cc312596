"""The engines that can run a bundle's network on a processor, and how far their answers may differ."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

#: "onnxruntime" and "openvino" compute in float32, "openvino-bf16" in bfloat16.
EngineName: TypeAlias = Literal["onnxruntime", "openvino", "openvino-bf16"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
AUTO = "auto"
#: Batches that an engine runs at a time: the threads of one meet after every layer, and meanwhile the other computes.
AT_ONCE = 2

#: The one tolerance of a float32 engine is that of the bundle: its logits beside the golden ones, as `verify` has it.
#: bfloat16 keeps eight bits of a number, so logits differ in their third digit. What is answered may not: a calibrated
#: probability may be off by this much,
BF16_PROBABILITY = 0.02
#: and the distance to the known classes by this share.
BF16_DISTANCE = 0.05

"use strict";
// Answers in the browser itself: onnxruntime-web runs the network that this file holds.

const contentOf = (id) => document.getElementById(id).textContent;

async function unpacked(id) {
  const packed = Uint8Array.from(atob(contentOf(id)), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** Load the engine and the network. Resolves to a function: file → answer. */
async function openEngine(model) {
  const address = URL.createObjectURL(new Blob([contentOf("engine")], { type: "text/javascript" }));
  const ort = await import(address);
  URL.revokeObjectURL(address);
  ort.env.wasm.wasmBinary = await unpacked("engine-binary");
  ort.env.wasm.numThreads = 1; // more need headers that a file does not have
  const session = await ort.InferenceSession.create(await unpacked("network"), { executionProviders: ["wasm"] });
  const known = model.known ? await knownClasses(model.known) : null;

  async function run(picture) {
    const { height, width } = model.preprocessing;
    const pictures = new ort.Tensor("uint8", picture.data, [1, height, width, 3]);
    const outputs = await session.run({ pictures });
    return { logits: Array.from(outputs.logits.data), features: outputs.features && Array.from(outputs.features.data) };
  }

  return async function classify(file) {
    const picture = preprocess(await readPicture(file, model.preprocessing), model.preprocessing);
    const { logits, features } = await run(picture);
    const versions = [logits];
    for (const copy of changedCopies(picture, model.tta, model.flip, model.preprocessing.interpolation)) {
      versions.push((await run(copy)).logits);
    }
    if (!logits.every(Number.isFinite)) throw new Error("The network gave no numbers for this picture.");
    const distance = known && features ? distanceToKnown(features, known) : null;
    return answerOf(model.tta ? averageLogits(versions, model) : logits, distance, model);
  };
}

async function knownClasses(lengths) {
  const numbers = new Float32Array(await unpacked("known"));
  const parts = {};
  let start = 0;
  for (const [name, length] of Object.entries(lengths)) {
    parts[name] = numbers.subarray(start, start + length);
    start += length;
  }
  return parts;
}

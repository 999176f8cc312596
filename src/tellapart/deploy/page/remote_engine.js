"use strict";
// Answers from the server that this page came from.

/** Resolves to a function: file → answer. */
async function openEngine(model) {
  const coverage = model.set ? `&coverage=${model.set.coverage}` : "";
  const address = `v1/predict?top=5${coverage}`;

  return async function classify(file) {
    const answer = await askUntilReady(address, { "Content-Type": "application/octet-stream" }, file);
    // A class called "7" would come first in an object, whatever its probability.
    answer.labels = Object.entries(answer.labels).sort((a, b) => b[1] - a[1]);
    return answer;
  };
}
